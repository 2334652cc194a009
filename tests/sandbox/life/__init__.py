"""One life of an application; the folder's tests share it."""
