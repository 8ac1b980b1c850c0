//! kube-types
