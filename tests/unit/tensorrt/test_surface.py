"""The stand-ins refuse what the real modules would refuse."""

from __future__ import annotations

import pytest

from tests.unit.tensorrt.fake_cuda import SIGNATURES, FakeGpu
from tests.unit.tensorrt.surface import parse


def test_unknown_names_are_refused(trt):
    with pytest.raises(AttributeError):
        _ = trt.volume
    with pytest.raises(AttributeError):
        _ = trt.Builder.build_cuda_engine
    with pytest.raises(AttributeError):
        trt.Builder(logger_of(trt)).max_batch_size = 4


def test_precision_flags_are_there_only_where_they_were_recorded(world, trt):
    assert hasattr(trt.BuilderFlag, "FP16") == (world.major < 11)
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == (world.major < 11)
    assert hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def test_calls_are_bound_to_the_recorded_signature(trt):
    builder = trt.Builder(logger=logger_of(trt))
    config = builder.create_builder_config()
    with pytest.raises(TypeError, match="incompatible"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1.5)
    with pytest.raises(TypeError, match="incompatible"):
        config.set_memory_pool_limit(trt.BuilderFlag.TF32, 1024)
    with pytest.raises(TypeError, match="missing a required argument"):
        config.set_memory_pool_limit(pool=trt.MemoryPoolType.WORKSPACE, size=1024)
    with pytest.raises(TypeError, match="missing"):
        trt.OnnxParser(builder.create_network(0))
    with pytest.raises(TypeError, match="incompatible"):
        trt.OnnxParser(builder.create_network(0), "logger")
    with pytest.raises(TypeError, match="not recorded"):
        trt.Runtime(logger_of(trt)).deserialize_cuda_engine(serialized_engine=b"")
    with pytest.raises(TypeError, match="No constructor"):
        trt.IBuilderConfig()


def test_a_derived_logger_must_call_its_parent(trt):
    class Silent(trt.ILogger):
        def __init__(self) -> None:
            pass

    with pytest.raises(TypeError, match="incompatible"):
        trt.Builder(Silent())


def logger_of(trt):
    class Ears(trt.ILogger):
        def __init__(self):
            trt.ILogger.__init__(self)

        def log(self, severity, msg):
            pass

    return Ears()


def test_signatures_with_brackets_and_defaults_are_read():
    found = parse("set(self: tensorrt.X, a: Tuple[bool, List[int]], path: str = None) -> bool")
    assert [p.name for p in found.parameters.values()] == ["a", "path"]
    assert found.parameters["path"].default is None
    assert parse("f(*args, **kwargs)") is None


def test_cuda_refuses_unknown_names_and_other_numbers_of_arguments():
    cuda = FakeGpu().module()
    with pytest.raises(AttributeError):
        _ = cuda.cudaMallocManaged
    with pytest.raises(TypeError):
        cuda.cudaMalloc()
    assert all(hasattr(cuda, name) for name in SIGNATURES)


def test_the_recorded_names_of_cuda_are_those_of_the_installed_package():
    real = pytest.importorskip("cuda.bindings.runtime", reason="cuda-python is not installed")
    for name, parameters in SIGNATURES.items():
        line = getattr(real, name).__doc__.strip().splitlines()[0]
        inside = line[line.index("(") + 1 : line.rindex(")")]
        found = [part.partition(":")[0].split()[-1] for part in inside.split(",") if part.strip()]
        assert tuple(found) == parameters, name
