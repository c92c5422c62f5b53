"""ModelService, translated to calls of the core."""

from pspsearch.live.collections import Collections
from pspsearch.live.trial import Tried
from pspsearch.rollout.rollout import Check, Rollout, RolloutOptions
from pspsearch.rollout.rollouts import Rollouts
from pspsearch.rpc.admission import Admission, Visitor
from pspsearch.rpc.messages import write_collection, write_origin, write_time
from pspsearch.v1 import model_service_pb2 as models

_USUAL = RolloutOptions()


class ModelService:
    """Lists model versions and generations, and controls rollouts."""

    def __init__(self, admission: Admission, rollouts: Rollouts, collections: Collections, default_model: str) -> None:
        self._admission = admission
        self._rollouts = rollouts
        self._collections = collections
        self._default_model = default_model

    async def ListModelVersions(
        self, request: models.ListModelVersionsRequest, visitor: Visitor
    ) -> models.ListModelVersionsResponse:
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

    async def StartRollout(self, request: models.StartRolloutRequest, visitor: Visitor) -> models.StartRolloutResponse:
        share = request.share or _USUAL.share
        options = RolloutOptions(share, request.automatic, request.drop_missing, request.canary, request.shadow)
        rollout = await self._rollouts.start(request.collection, request.model_version or None, options)
        return models.StartRolloutResponse(rollout=_write_rollout(rollout))

    async def GetRollout(self, request: models.GetRolloutRequest, visitor: Visitor) -> models.GetRolloutResponse:
        rollout = await self._rollouts.get(request.collection)
        return models.GetRolloutResponse(rollout=_write_rollout(rollout))

    async def WatchRollout(self, request: models.WatchRolloutRequest, visitor: Visitor) -> None:
        async for rollout in self._rollouts.watch(request.collection):
            self._admission.guard.check_still("WatchRollout", visitor.caller, request)
            answer = models.WatchRolloutResponse(rollout=_write_rollout(rollout))
            await visitor.context.write(answer.SerializeToString())

    async def TryRollout(self, request: models.TryRolloutRequest, visitor: Visitor) -> models.TryRolloutResponse:
        rollout = await self._rollouts.try_out(request.collection, request.canary, request.shadow)
        return models.TryRolloutResponse(rollout=_write_rollout(rollout))

    async def PromoteRollout(
        self, request: models.PromoteRolloutRequest, visitor: Visitor
    ) -> models.PromoteRolloutResponse:
        rollout = await self._rollouts.promote(request.collection, drop_missing=request.drop_missing)
        return models.PromoteRolloutResponse(rollout=_write_rollout(rollout))

    async def AbortRollout(self, request: models.AbortRolloutRequest, visitor: Visitor) -> models.AbortRolloutResponse:
        rollout = await self._rollouts.abort(request.collection)
        return models.AbortRolloutResponse(rollout=_write_rollout(rollout))

    async def Rollback(self, request: models.RollbackRequest, visitor: Visitor) -> models.RollbackResponse:
        generation = await self._rollouts.rollback(request.collection)
        return models.RollbackResponse(origin=write_origin(generation))

    async def RetireGeneration(
        self, request: models.RetireGenerationRequest, visitor: Visitor
    ) -> models.RetireGenerationResponse:
        generation = await self._rollouts.retire(request.collection)
        return models.RetireGenerationResponse(origin=write_origin(generation))

    async def FollowModel(self, request: models.FollowModelRequest, visitor: Visitor) -> models.FollowModelResponse:
        live = await self._collections.set_follows(request.collection, follows=request.follow)
        collection = write_collection(live, self._rollouts.under_way(live.collection))
        return models.FollowModelResponse(collection=collection)

    async def ListGenerations(
        self, request: models.ListGenerationsRequest, visitor: Visitor
    ) -> models.ListGenerationsResponse:
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
