//! Files in bbolt's format, which etcd keeps its state and its snapshots in.
