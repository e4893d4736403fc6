"""The processors that can be emulated, and what the kernel of such a machine says of them.

A program that looks at ``/proc/cpuinfo`` must see the processor that runs it and not the host's:
ONNX Runtime chooses kernels by it, and its aarch64 build dies when it meets an x86 one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgecompress.errors import RecipeError
from edgecompress.words import meant

SCHEME = "emulated://"
CORES = 4
_ARMV8 = "fp asimd evtstrm aes pmull sha1 sha2 crc32"
_ARMV82 = f"{_ARMV8} atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
_HASWELL = (
    "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse "
    "sse2 ss syscall nx rdtscp lm constant_tsc pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 movbe "
    "popcnt aes xsave avx f16c rdrand hypervisor lahf_lm abm fsgsbase bmi1 avx2 smep bmi2 erms "
    "xsaveopt"
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """A processor.

    Attributes
    ----------
    name : str
        As a target's URL has it.
    title : str
        For people.
    machine : str
        As ``uname -m`` gives it: ``aarch64`` or ``x86_64``.
    model : str
        QEMU's ``-cpu``. Never ``max``: with it dynamically quantized products are wrong.
    cpuinfo : dict of str to str
        Fields of each core in ``/proc/cpuinfo``; ``{core}`` stands for its number.
    """

    name: str
    title: str
    machine: str
    model: str
    cpuinfo: Mapping[str, str]

    @property
    def url(self) -> str:
        """The target's URL: ``emulated://cortex-a72``."""
        return SCHEME + self.name


def _arm(name: str, title: str, part: str, variant: str, revision: str, features: str) -> Cpu:
    return Cpu(
        name,
        title,
        "aarch64",
        name,
        {
            "processor": "{core}",
            "BogoMIPS": "108.00",
            "Features": features,
            "CPU implementer": "0x41",
            "CPU architecture": "8",
            "CPU variant": variant,
            "CPU part": part,
            "CPU revision": revision,
        },
    )


CPUS: Mapping[str, Cpu] = {
    cpu.name: cpu
    for cpu in (
        _arm("cortex-a53", "Cortex-A53", "0xd03", "0x0", "4", f"{_ARMV8} cpuid"),
        _arm("cortex-a72", "Cortex-A72", "0xd08", "0x0", "3", f"{_ARMV8} cpuid"),
        _arm("cortex-a76", "Cortex-A76", "0xd0b", "0x4", "1", _ARMV82),
        _arm("neoverse-n1", "Neoverse N1", "0xd0c", "0x3", "1", f"{_ARMV82} ssbs"),
        Cpu(
            "x86-avx2",
            "Haswell (AVX2, no VNNI)",
            "x86_64",
            # What the emulator cannot do is left out by name, or it complains at each start.
            "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
            {
                "processor": "{core}",
                "vendor_id": "GenuineIntel",
                "cpu family": "6",
                "model": "60",
                "model name": "Intel Core Processor (Haswell, no TSX)",
                "stepping": "1",
                "physical id": "0",
                "siblings": str(CORES),
                "core id": "{core}",
                "cpu cores": str(CORES),
                "apicid": "{core}",
                "initial apicid": "{core}",
                "flags": _HASWELL,
            },
        ),
    )
}
"""The processors by their names; a Raspberry Pi 3, 4 and 5, a Graviton 2, a PC of 2013 to 2018."""


def find_cpu(name: str) -> Cpu:
    """Find a processor by its name or its target's URL.

    Raises
    ------
    RecipeError
        When there is none of that name; the text has the nearest one, or all.
    """
    bare = name.removeprefix(SCHEME)
    if bare not in CPUS:
        raise RecipeError(f"no processor {bare!r} to emulate{meant(bare, CPUS)}")
    return CPUS[bare]


def cpuinfo(cpu: Cpu) -> str:
    """Write the text of ``/proc/cpuinfo``."""
    return "".join(
        "".join(f"{key:<16}: {value.format(core=core)}\n" for key, value in cpu.cpuinfo.items())
        + "\n"
        for core in range(CORES)
    )
