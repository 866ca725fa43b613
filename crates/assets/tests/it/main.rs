//! Boot assets from a small archive of our own: signed by a throwaway key, served over HTTP on loopback, made faulty on purpose.

mod archive;
mod build;
mod bundles;
mod damage;
mod interruption;
mod real;
mod server;
mod store;
