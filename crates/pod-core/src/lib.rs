//! pod-core
