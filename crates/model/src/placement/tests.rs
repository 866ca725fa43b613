//! Tables and properties of admission.
