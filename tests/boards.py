"""Made-up boards: the files that /sys, /proc, /etc and /var of a machine hold, in a folder."""

from pathlib import Path

NVPMODEL = """
# PM_CONFIG DEFAULT=1
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
"""
HWMON, THERMAL, CPU = "sys/class/hwmon", "sys/class/thermal", "sys/devices/system/cpu"


def monitor(folder: str, rails: dict[int, tuple[str, int, int]]) -> dict[str, str]:
    """Return the files of a power monitor: by channel its rail, mV and mA."""
    files = {f"{folder}/name": "ina3221"}
    for channel, (name, voltage_mv, current_ma) in rails.items():
        files |= {
            f"{folder}/in{channel}_label": name,
            f"{folder}/in{channel}_input": str(voltage_mv),
            f"{folder}/curr{channel}_input": str(current_ma),
        }
    return files


def over_current(folder: str, counts: tuple[int, int, int]) -> dict[str, str]:
    """Return the files of an Orin's three counters."""
    return {f"{folder}/name": "soctherm_oc"} | {
        f"{folder}/oc{n}_event_cnt": str(one) for n, one in enumerate(counts, 1)
    }


ORIN_NANO_JETPACK_6 = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/meminfo": "MemTotal:        7802108 kB\nMemFree:          900000 kB\nMemAvailable:    5120000 kB",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
    "etc/nvpmodel.conf": NVPMODEL,
    "var/lib/nvpmodel/status": "pmode:0002",
    f"{CPU}/cpufreq/policy0/scaling_cur_freq": "1344000",
    f"{CPU}/cpufreq/policy0/scaling_max_freq": "1728000",
    f"{CPU}/cpufreq/policy0/cpuinfo_max_freq": "1984000",
    f"{CPU}/cpufreq/policy0/scaling_governor": "schedutil",
    f"{CPU}/cpufreq/policy4/scaling_cur_freq": "729600",
    "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
    "sys/class/devfreq/17000000.gpu/max_freq": "918000000",
    "sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 408000000 1020000000",
    "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal",
    f"{THERMAL}/thermal_zone0/temp": "49156",
    f"{THERMAL}/thermal_zone1/type": "gpu-thermal",
    f"{THERMAL}/thermal_zone1/temp": "48093",
    f"{THERMAL}/thermal_zone2/type": "cv0-thermal",
    f"{THERMAL}/thermal_zone2/temp": "-256000",
    f"{THERMAL}/cooling_device0/type": "cpu-throttle-alert",
    f"{THERMAL}/cooling_device0/cur_state": "0",
    f"{THERMAL}/cooling_device1/type": "pwm-fan",
    f"{THERMAL}/cooling_device1/cur_state": "3",
    f"{THERMAL}/cooling_device2/type": "devfreq-17000000.gpu",
    f"{THERMAL}/cooling_device2/cur_state": "2",
    **monitor(
        f"{HWMON}/hwmon1",
        {1: ("VDD_IN", 5072, 1240), 2: ("VDD_CPU_GPU_CV", 5064, 192), 3: ("VDD_SOC", 5064, 320)},
    ),
    f"{HWMON}/hwmon1/in4_input": "12",
    f"{HWMON}/hwmon1/in7_label": "sum of shunt voltages",
    **over_current(f"{HWMON}/hwmon3", (0, 2, 37)),
}
AGX_ORIN_JETPACK_7 = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": "# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64",
    "var/lib/nvpmodel/status": "pmode:0000",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1300500000",
    **monitor(
        f"{HWMON}/hwmon3",
        {1: ("VDD_GPU_SOC", 10000, 400), 2: ("VDD_CPU_CV", 10000, 100), 3: ("VIN_SYS_5V0", 5000, 900)},
    ),
    **monitor(f"{HWMON}/hwmon4", {1: ("NC", 0, 0), 2: ("VDDQ_VDD2_1V8AO", 5000, 100), 3: ("NC", 0, 0)}),
    **over_current(f"{HWMON}/hwmon5", (0, 0, 0)),
}
PC = {
    "sys/class/dmi/id/sys_vendor": "Example",
    "sys/class/dmi/id/product_name": "Desktop 9000",
    "sys/class/dmi/id/product_serial": "SECRET-123",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Example CPU @ 3.6GHz\nmodel name\t: Example CPU @ 3.6GHz",
    "proc/meminfo": "MemTotal:       16384000 kB\nMemAvailable:   8192000 kB",
    f"{CPU}/cpufreq/policy0/scaling_cur_freq": "3600000",
    f"{CPU}/cpufreq/policy0/cpuinfo_max_freq": "4800000",
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count": "3",
    f"{CPU}/cpu1/thermal_throttle/core_throttle_count": "4",
    f"{THERMAL}/thermal_zone0/type": "acpitz",
    f"{THERMAL}/thermal_zone0/temp": "27800",
    f"{THERMAL}/thermal_zone1/type": "acpitz",
    f"{THERMAL}/thermal_zone1/temp": "29800",
    f"{THERMAL}/cooling_device0/type": "Processor",
    f"{THERMAL}/cooling_device0/cur_state": "0",
    f"{HWMON}/hwmon0/name": "coretemp",
}


def make_board(root: Path, files: dict[str, str]) -> Path:
    """Write the files of a board, and return their root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root
