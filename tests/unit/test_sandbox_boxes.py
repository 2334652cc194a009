"""The powers of a container that is a computer."""

from daybook_sandbox.boxes import missing_capabilities

ALL = 0x1FFFFFFFFFF


def status(bits):
    return f"Name:\tdaemon\nCapEff:\t0000000000000000\nCapBnd:\t{bits:016x}\nCapAmb:\t0\n"


def test_a_host_with_every_capability_lacks_none():
    assert missing_capabilities(status(ALL)) == []


def test_capability_24_is_sys_resource():
    assert missing_capabilities(status(ALL & ~(1 << 24))) == ["SYS_RESOURCE"]


def test_the_first_and_the_last_are_counted_right():
    assert missing_capabilities(status(ALL & ~1 & ~(1 << 40))) == ["CHOWN", "CHECKPOINT_RESTORE"]
