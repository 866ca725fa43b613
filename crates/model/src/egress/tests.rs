//! The text form, in and out.
