"""ModelService over the core."""

from pspsearch.rollout.rollout import Check, Options, Rollout
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.gate import Gate
from pspsearch.rpc.guard import Context
from pspsearch.rpc.messages import write_collection, write_origin, write_time
from pspsearch.search.collections import Collections
from pspsearch.search.trial import Tried
from pspsearch.v1 import model_service_pb2 as models
from pspsearch.v1 import model_service_pb2_grpc

_USUAL = Options()


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Model versions, rollouts and generations."""

    def __init__(self, gate: Gate, rollouts: Rollouts, collections: Collections, default_model: str) -> None:
        self._gate = gate
        self._rollouts = rollouts
        self._collections = collections
        self._default_model = default_model

    async def ListModelVersions(
        self, request: models.ListModelVersionsRequest, context: Context
    ) -> models.ListModelVersionsResponse:
        async with self._gate.enter("ListModelVersions", context, request):
            model = request.model or self._default_model
            return models.ListModelVersionsResponse(
                versions=[
                    models.ModelVersion(
                        model=model,
                        version=one.version,
                        usable=not one.reason,
                        reason=one.reason,
                        fingerprint="" if one.contract is None else one.contract.fingerprint,
                        dimension=0 if one.contract is None else one.contract.dimension,
                        collections=[
                            live.collection.name
                            for live in self._collections.all()
                            if (live.generation.model, live.generation.version) == (model, one.version)
                        ],
                    )
                    for one in await self._rollouts.look(model)
                ]
            )

    async def StartRollout(self, request: models.StartRolloutRequest, context: Context) -> models.StartRolloutResponse:
        async with self._gate.enter("StartRollout", context, request):
            share = request.share or _USUAL.share
            options = Options(share, request.automatic, request.drop_missing, request.canary, request.shadow)
            rollout = await self._rollouts.start(request.collection, request.model_version or None, options)
            return models.StartRolloutResponse(rollout=_write_rollout(rollout))

    async def GetRollout(self, request: models.GetRolloutRequest, context: Context) -> models.GetRolloutResponse:
        async with self._gate.enter("GetRollout", context, request):
            rollout = await self._rollouts.get(request.collection)
            return models.GetRolloutResponse(rollout=_write_rollout(rollout))

    async def WatchRollout(  # pyright: ignore[reportIncompatibleMethodOverride] - grpc.aio lets a coroutine write, too
        self, request: models.WatchRolloutRequest, context: Context
    ) -> None:
        async with self._gate.enter("WatchRollout", context, request):
            async for rollout in self._rollouts.watch(request.collection):
                self._gate.guard.check_still("WatchRollout", context, request)
                await context.write(models.WatchRolloutResponse(rollout=_write_rollout(rollout)))

    async def TryRollout(self, request: models.TryRolloutRequest, context: Context) -> models.TryRolloutResponse:
        async with self._gate.enter("TryRollout", context, request):
            rollout = await self._rollouts.try_out(request.collection, request.canary, request.shadow)
            return models.TryRolloutResponse(rollout=_write_rollout(rollout))

    async def PromoteRollout(
        self, request: models.PromoteRolloutRequest, context: Context
    ) -> models.PromoteRolloutResponse:
        async with self._gate.enter("PromoteRollout", context, request):
            rollout = await self._rollouts.promote(request.collection, drop_missing=request.drop_missing)
            return models.PromoteRolloutResponse(rollout=_write_rollout(rollout))

    async def AbortRollout(self, request: models.AbortRolloutRequest, context: Context) -> models.AbortRolloutResponse:
        async with self._gate.enter("AbortRollout", context, request):
            rollout = await self._rollouts.abort(request.collection)
            return models.AbortRolloutResponse(rollout=_write_rollout(rollout))

    async def Rollback(self, request: models.RollbackRequest, context: Context) -> models.RollbackResponse:
        async with self._gate.enter("Rollback", context, request):
            generation = await self._rollouts.rollback(request.collection)
            return models.RollbackResponse(origin=write_origin(generation))

    async def RetireGeneration(
        self, request: models.RetireGenerationRequest, context: Context
    ) -> models.RetireGenerationResponse:
        async with self._gate.enter("RetireGeneration", context, request):
            generation = await self._rollouts.retire(request.collection)
            return models.RetireGenerationResponse(origin=write_origin(generation))

    async def FollowModel(self, request: models.FollowModelRequest, context: Context) -> models.FollowModelResponse:
        async with self._gate.enter("FollowModel", context, request):
            live = await self._collections.set_follows(request.collection, follows=request.follow)
            collection = write_collection(live, self._rollouts.under_way(live.collection))
            return models.FollowModelResponse(collection=collection)

    async def ListGenerations(
        self, request: models.ListGenerationsRequest, context: Context
    ) -> models.ListGenerationsResponse:
        async with self._gate.enter("ListGenerations", context, request):
            response = models.ListGenerationsResponse()
            for record in await self._rollouts.generations(request.collection):
                rollout = Rollout.read(request.collection, record)
                response.generations.add(
                    origin=write_origin(record.generation),
                    state=models.GenerationState.Value(f"GENERATION_STATE_{record.state.name}"),
                    create_time=write_time(record.created),
                    change_time=write_time(record.changed),
                    checks=[] if rollout is None else map(_write_check, rollout.checks),
                    reason="" if rollout is None else rollout.reason,
                )
            return response


def _write_rollout(rollout: Rollout) -> models.Rollout:
    return models.Rollout(
        collection=rollout.collection,
        origin=write_origin(rollout.generation),
        stage=models.RolloutStage.Value(f"ROLLOUT_STAGE_{rollout.stage.name}"),
        described_count=rollout.described,
        total_count=rollout.total,
        per_second=rollout.per_second,
        eta_s=rollout.eta_s,
        missing_count=rollout.missing,
        checks=map(_write_check, rollout.checks),
        reason=rollout.reason,
        canary=rollout.options.canary,
        shadow=rollout.options.shadow,
        trial=_write_trial(rollout.tried),
    )


def _write_trial(tried: Tried) -> models.Trial:
    return models.Trial(
        answered_count=tried.answered,
        passed_on_count=tried.passed_on,
        mirrored_count=tried.mirrored,
        failed_count=tried.failed,
        overlap=tried.overlap,
        ms=tried.ms,
        active_ms=tried.active_ms,
    )


def _write_check(check: Check) -> models.Check:
    return models.Check(name=check.name, value=check.value, bound=check.bound, passed=check.passed, words=check.words)
