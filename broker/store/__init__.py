"""Records in etcd: keys, bytes, guarded writes, and the mirror of them in memory."""
