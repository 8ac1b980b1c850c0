//! coordinators
