"""The host's program on a real machine; the folder's tests share one."""
