import os
from pathlib import Path

import pytest

from distill import machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_container_s_limits_cut_cores_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    write(tmp_path / "proc" / "meminfo", "MemTotal: 16000000 kB\nMemAvailable: 9000000 kB\n")
    assert machine.cores() == 8
    assert machine.memory() == (16_000_000 * 1024, 9_000_000 * 1024)
    write(tmp_path / "cgroup" / "cpu.max", "150000 100000\n")
    write(tmp_path / "cgroup" / "memory.max", "4000000000\n")
    write(tmp_path / "cgroup" / "memory.current", "3000000000\n")
    write(tmp_path / "cgroup" / "memory.stat", "anon 1\ninactive_file 500000000\n")
    assert machine.cores() == 2
    assert machine.memory() == (4_000_000_000, 1_500_000_000)
    write(tmp_path / "cgroup" / "cpu.max", "max 100000\n")
    write(tmp_path / "cgroup" / "memory.max", "max\n")
    assert machine.cores() == 8
    assert machine.memory()[0] == 16_000_000 * 1024


def test_a_default_route_is_read_from_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(machine, "PROC", tmp_path)
    assert machine.has_route() is None
    heading = "Iface\tDestination\tGateway\n"
    write(tmp_path / "net" / "route", heading + "eth0\t0000A8C0\t00000000\n")
    assert machine.has_route() is False
    write(tmp_path / "net" / "route", heading + "eth0\t00000000\t0100A8C0\n")
    assert machine.has_route() is True
    write(tmp_path / "net" / "route", heading)
    write(tmp_path / "net" / "ipv6_route", f"{'0' * 32} 00 {'0' * 32} 00 fe80 1 2 3 4     eth0\n")
    assert machine.has_route() is True
    write(tmp_path / "net" / "ipv6_route", f"{'0' * 32} 00 {'0' * 32} 00 {'0' * 32} 1 2 3 4 lo\n")
    assert machine.has_route() is False
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    assert machine.has_route() is True


def test_disk_is_measured_where_the_folder_would_be_made(tmp_path: Path) -> None:
    assert machine.existing(tmp_path / "a" / "b") == tmp_path
    assert machine.free_disk(tmp_path / "a" / "b") > 0
