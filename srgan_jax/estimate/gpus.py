"""GPUs that the CUDA compiler can compile for without one."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Gpu:
    """One GPU, by the figures that NVIDIA publishes.

    Attributes:
      name: the name that the driver gives.
      capability: compute capability.
      cores: streaming multiprocessors.
      fpus_per_core: float32 units of a multiprocessor.
      clock: cycles per second, with boost.
      bandwidth: bytes per second from and to memory.
      memory: bytes of memory.
      l2: bytes of the L2 cache.
      threads_per_core: resident threads of a multiprocessor.
      shared_per_core: bytes of shared memory of a multiprocessor.
      flops: peak operations per second of dense products, by precision. A multiply-add
        counts as two.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    fpus_per_core: int
    clock: float
    bandwidth: float
    memory: int
    l2: int
    threads_per_core: int
    shared_per_core: int
    flops: dict[str, float]

    def target_config(self) -> str:
        """The device as XLA's text proto GpuTargetConfigProto."""
        major, minor = self.capability
        return f"""
        gpu_device_info {{
          cuda_compute_capability {{ major: {major} minor: {minor} }}
          core_count: {self.cores}
          fpus_per_core: {self.fpus_per_core}
          clock_rate_ghz: {self.clock / 1e9}
          memory_bandwidth: {self.bandwidth:.0f}
          device_memory_size: {self.memory}
          l2_cache_size: {self.l2}
          threads_per_core_limit: {self.threads_per_core}
          shared_memory_per_core: {self.shared_per_core}
          shared_memory_per_block_optin: {self.shared_per_core - 1024}
          shared_memory_per_block: 49152
          threads_per_block_limit: 1024
          threads_per_warp: 32
          registers_per_core_limit: 65536
          registers_per_block_limit: 65536
          block_dim_limit_x: 2147483647
          block_dim_limit_y: 65535
          block_dim_limit_z: 65535
        }}
        platform_name: "CUDA"
        dnn_version_info {{ major: 9 minor: 8 }}
        runtime_version {{ major: 12 minor: 9 }}
        device_description_str: "{self.name}"
        """


HOPPER = {"bfloat16": 989e12, "TF32": 495e12, "float32": 67e12}
GPUS = {
    "h100": Gpu(
        *("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 1.98e9, 3.352e12),
        *(80 * 2**30, 50 * 2**20, 2048, 228 * 2**10, HOPPER),
    ),
    "h200": Gpu(
        *("NVIDIA H200", (9, 0), 132, 128, 1.98e9, 4.8e12),
        *(141 * 2**30, 50 * 2**20, 2048, 228 * 2**10, HOPPER),
    ),
    "a100": Gpu(
        *("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 1.41e9, 2.039e12),
        *(80 * 2**30, 40 * 2**20, 2048, 164 * 2**10),
        {"bfloat16": 312e12, "TF32": 156e12, "float32": 19.5e12},
    ),
    "a6000": Gpu(
        *("NVIDIA RTX A6000", (8, 6), 84, 128, 1.8e9, 768e9),
        *(48 * 2**30, 6 * 2**20, 1536, 100 * 2**10),
        {"bfloat16": 154.8e12, "TF32": 77.4e12, "float32": 38.7e12},
    ),
}
