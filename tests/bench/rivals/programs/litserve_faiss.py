"""LitServe with batches, and a worker for each of the two cores."""

import litserve
import numpy as np
from fastapi import UploadFile
from parts import Arguments, FaissIndex, Network, answer, decode

arguments = Arguments.read()


class Search(litserve.LitAPI):
    """Each worker has its own network with one thread, unpinned: pinned ones would share a core."""

    def setup(self, device: str) -> None:
        """Opens network and index in each worker."""
        self.network = Network(arguments.model, "LATENCY", INFERENCE_NUM_THREADS=1, ENABLE_CPU_PINNING=False)
        self.index = FaissIndex(arguments.vectors)

    def decode_request(self, request: UploadFile) -> np.ndarray:
        """From a JPEG to pixels."""
        return decode(request.file.read())

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """Stacks the pixels."""
        return np.stack(inputs)

    def predict(self, pixels: np.ndarray) -> list[list[tuple[str, float]]]:
        """From a batch to its hits."""
        return self.index.search(self.network.describe(pixels))

    def unbatch(self, output: list[list[tuple[str, float]]]) -> list[list[tuple[str, float]]]:
        """Does nothing, because the hits are separate already."""
        return output

    def encode_response(self, output: list[tuple[str, float]]) -> dict[str, list[dict[str, object]]]:
        """The hits as JSON."""
        return answer(output)


if __name__ == "__main__":
    api = Search(max_batch_size=8, batch_timeout=0.002, api_path="/search")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=2)
    server.run(port=arguments.port, generate_client_file=False, log_level="warning", access_log=False)
