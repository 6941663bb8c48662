"""vLLM in this process: batches, prefix caching, guided decoding by schema, beam search."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.cards import Settings
from bench.errors import InputError
from bench.llm.causal import Made
from bench.llm.contracts import Capabilities, ChatRequest, Failure, Sampling
from bench.llm.failures import RequestError
from bench.llm.hf_engine import chat_prompt, resolved
from bench.llm.wire import Reply

CAPABILITIES = Capabilities(json_schema=True, n=True, logprobs=True, seed=True, beams=True)


class EngineOptions(Settings):
    """How vLLM spreads a model over GPUs, as it stands behind its path: `vllm:PATH?tensor_parallel_size=4`.

    They are no part of an identity, since they say where the answer is computed and not what is asked. Data parallelism over
    whole copies of a model is that of its server (`vllm serve --data-parallel-size`), or of a sweep's cells.
    """

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share every layer")
    pipeline_parallel_size: int = Field(1, ge=1, description="groups of GPUs that have a share of the layers each")
    distributed_executor_backend: Literal["mp", "ray"] = Field(
        "mp", description="mp: GPUs of this machine; ray: those of a cluster"
    )
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="share of a GPU's memory that is taken")

    @classmethod
    def read(cls, name: str, query: str) -> EngineOptions:
        """The options behind the question mark of a name.

        Raises:
            InputError: no `KEY=VALUE`, an option given twice, one that does not exist, or a value that does not fit.
        """
        values: dict[str, str] = {}
        for pair in query.split("&") if query else ():
            key, equals, value = pair.partition("=")
            if not equals or key in values:
                raise InputError(f"{name}: write options as KEY=VALUE with & between them, each once; got {pair!r}.")
            values[key] = value
        return cls.parse(name.partition("?")[0], values)


class VllmEngine:
    """`vllm.LLM` on a folder.

    Args:
        folder: model in Hugging Face's format.
        dtype: name of a torch dtype, or "auto" for that of the checkpoint.
        options: what is not given is left to vLLM.
        trust_remote_code: run Python code that comes with the model.

    Raises:
        InputError: vLLM is not installed, or does not load the model.
    """

    def __init__(self, folder: Path, dtype: str, options: EngineOptions, *, trust_remote_code: bool = False) -> None:
        try:
            from vllm import LLM
        except ImportError:
            raise InputError("this needs vllm, which is not installed (pip install 'promptrec-bench[vllm]').") from None

        given = options.model_dump(exclude_unset=True)
        try:
            self._llm: Any = LLM(
                model=str(folder),
                dtype=dtype,
                enable_prefix_caching=True,
                disable_log_stats=True,
                trust_remote_code=trust_remote_code,
                **given,
            )
        except Exception as error:
            raise InputError(f"vLLM does not load {folder}: {' '.join(str(error).split())[:300]}") from None
        self._tokenizer: Any = self._llm.get_tokenizer()
        self._longest = int(self._llm.llm_engine.model_config.max_model_len)

    def generate(self, requests: list[ChatRequest]) -> list[Made]:
        """See `bench.llm.local.Engine`."""
        made: list[Made | None] = [None] * len(requests)
        prompts = [self._tokens(request) for request in requests]
        for place, request in enumerate(requests):
            if len(prompts[place]) + request.sampling.max_tokens > self._longest:
                detail = f"prompt of {len(prompts[place])} and answer of {request.sampling.max_tokens} tokens exceed {self._longest}"
                made[place] = RequestError(Failure.BAD_REQUEST, detail)
        single = [p for p, reply in enumerate(made) if reply is None and requests[p].sampling.beams == 1]
        beams = [p for p, reply in enumerate(made) if reply is None and requests[p].sampling.beams > 1]
        if single:
            for place, reply in zip(
                single, self._sampled([requests[p] for p in single], [prompts[p] for p in single]), strict=True
            ):
                made[place] = reply
        for place in beams:
            made[place] = self._searched(requests[place].sampling, prompts[place])
        return [reply for reply in made if reply is not None]

    def search(self, prompts: list[str], sampling: Sampling) -> list[Reply]:
        """The beams of texts that are to be gone on from as they are, without a chat template."""
        return [
            self._searched(sampling, self._tokenizer(prompt, add_special_tokens=False).input_ids) for prompt in prompts
        ]

    def close(self) -> None:
        """Let the engine go; its worker processes end with it."""
        self._llm = None

    def _tokens(self, request: ChatRequest) -> list[int]:
        tokens: list[int] = self._tokenizer(
            chat_prompt(self._tokenizer, request.messages), add_special_tokens=False
        ).input_ids
        return tokens

    def _sampled(self, requests: list[ChatRequest], prompts: list[list[int]]) -> list[Reply]:
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        parameters = []
        for request in requests:
            sampling = request.sampling
            guided = None if request.schema is None else StructuredOutputsParams(json=dict(request.schema))
            parameters.append(
                SamplingParams(
                    n=sampling.n if sampling.temperature > 0 else 1,
                    temperature=sampling.temperature,
                    top_p=sampling.top_p if sampling.top_p is not None else 1.0,
                    max_tokens=sampling.max_tokens,
                    seed=sampling.seed,
                    stop=list(sampling.stop) or None,
                    structured_outputs=guided,
                )
            )
        inputs = [{"prompt_token_ids": tokens} for tokens in prompts]
        replies = []
        for request, tokens, out in zip(
            requests, prompts, self._llm.generate(inputs, parameters, use_tqdm=False), strict=True
        ):
            # Greedy answers are all the same: one is made.
            outputs = list(out.outputs) * (request.sampling.n // len(out.outputs))
            replies.append(
                Reply(
                    tuple(one.text for one in outputs),
                    tuple(str(one.finish_reason or "") for one in outputs),
                    None,
                    len(tokens),
                    sum(len(one.token_ids) for one in out.outputs),
                )
            )
        return replies

    def _searched(self, sampling: Sampling, tokens: list[int]) -> Reply:
        from vllm.sampling_params import BeamSearchParams

        parameters = BeamSearchParams(beam_width=sampling.beams, max_tokens=sampling.max_tokens)
        (out,) = self._llm.beam_search([{"prompt_token_ids": tokens}], parameters)
        found = out.sequences[: sampling.n]
        rows = [list(beam.tokens[len(tokens) :]) for beam in found]
        return Reply(
            tuple(self._tokenizer.decode(row, skip_special_tokens=True) for row in rows),
            tuple(str(beam.finish_reason or "") for beam in found),
            None,
            len(tokens),
            sum(map(len, rows)),
            tuple(float(beam.cum_logprob) for beam in found),
        )


def dtype_of(device: str) -> str:
    """float32 on processors, the checkpoint's own on GPUs."""
    return "float32" if resolved(device) == "cpu" else "auto"
