//! What may leave a machine (spec 12.4).
