"""LitServe with batches, and a worker for each of the two cores."""

import litserve
import numpy as np
from fastapi import UploadFile
from parts import Arguments, FaissIndex, Network, answer, decode

arguments = Arguments.read()


class Search(litserve.LitAPI):
    """Each worker has a network of its own, of one thread; pinned ones would meet on the same core."""

    def setup(self, device: str) -> None:
        """In each worker."""
        self.network = Network(arguments.model, "LATENCY", INFERENCE_NUM_THREADS=1, ENABLE_CPU_PINNING=False)
        self.index = FaissIndex(arguments.vectors)

    def decode_request(self, request: UploadFile) -> np.ndarray:
        """A JPEG to pixels."""
        return decode(request.file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Side by side."""
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> list[list[tuple[str, float]]]:
        """A batch to its hits."""
        return self.index.search(self.network.describe(pixels))

    def unbatch(self, output: list[list[tuple[str, float]]]) -> list[list[tuple[str, float]]]:
        """They are apart already."""
        return output

    def encode_response(self, output: list[tuple[str, float]]) -> dict[str, list[dict[str, object]]]:
        """As JSON."""
        return answer(output)


if __name__ == "__main__":
    api = Search(max_batch_size=8, batch_timeout=0.002, api_path="/search")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(port=arguments.port, generate_client_file=False, log_level="warning", access_log=False)
