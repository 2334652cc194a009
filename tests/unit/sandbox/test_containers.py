"""The capabilities of a container that acts as a machine."""

from daybook_sandbox.containers import dropped, missing_capabilities

ALL = 0x1FFFFFFFFFF


def status(bits):
    return f"Name:\tdaemon\nCapEff:\t0000000000000000\nCapBnd:\t{bits:016x}\nCapAmb:\t0\n"


def test_a_host_with_every_capability_lacks_none():
    assert missing_capabilities(status(ALL)) == []


def test_capability_24_is_sys_resource():
    assert missing_capabilities(status(ALL & ~(1 << 24))) == ["SYS_RESOURCE"]


def test_the_first_and_last_capabilities_are_decoded():
    assert missing_capabilities(status(ALL & ~1 & ~(1 << 40))) == ["CHOWN", "CHECKPOINT_RESTORE"]


def test_an_old_engine_also_drops_missing_capabilities():
    wanted = ["SYS_MODULE", "SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME"]
    assert dropped("1.41", status(ALL & ~(1 << 24))) == wanted


def test_a_new_engine_drops_only_available_capabilities():
    lacks_resource_and_module = ALL & ~(1 << 24) & ~(1 << 16)
    assert dropped("1.44", status(lacks_resource_and_module)) == ["SYS_RAWIO", "SYS_TIME"]
