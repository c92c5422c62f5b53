# The asynchronous face of Triton's service: what a stub over a grpc.aio channel is.
import grpc
import grpc.aio
from tritonclient.grpc import service_pb2 as pb

class GRPCInferenceServiceStub:
    ServerLive: grpc.aio.UnaryUnaryMultiCallable[pb.ServerLiveRequest, pb.ServerLiveResponse]
    ServerReady: grpc.aio.UnaryUnaryMultiCallable[pb.ServerReadyRequest, pb.ServerReadyResponse]
    ModelReady: grpc.aio.UnaryUnaryMultiCallable[pb.ModelReadyRequest, pb.ModelReadyResponse]
    ModelMetadata: grpc.aio.UnaryUnaryMultiCallable[pb.ModelMetadataRequest, pb.ModelMetadataResponse]
    ModelConfig: grpc.aio.UnaryUnaryMultiCallable[pb.ModelConfigRequest, pb.ModelConfigResponse]
    ModelInfer: grpc.aio.UnaryUnaryMultiCallable[pb.ModelInferRequest, pb.ModelInferResponse]
    RepositoryIndex: grpc.aio.UnaryUnaryMultiCallable[pb.RepositoryIndexRequest, pb.RepositoryIndexResponse]
    RepositoryModelLoad: grpc.aio.UnaryUnaryMultiCallable[pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse]
    RepositoryModelUnload: grpc.aio.UnaryUnaryMultiCallable[
        pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse
    ]
    SystemSharedMemoryRegister: grpc.aio.UnaryUnaryMultiCallable[
        pb.SystemSharedMemoryRegisterRequest, pb.SystemSharedMemoryRegisterResponse
    ]
    SystemSharedMemoryUnregister: grpc.aio.UnaryUnaryMultiCallable[
        pb.SystemSharedMemoryUnregisterRequest, pb.SystemSharedMemoryUnregisterResponse
    ]
    def __init__(self, channel: grpc.Channel | grpc.aio.Channel) -> None: ...

class GRPCInferenceServiceServicer: ...

def add_GRPCInferenceServiceServicer_to_server(
    servicer: GRPCInferenceServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None: ...
