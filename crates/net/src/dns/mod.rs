//! Answers to names: containers' from one table, everything else from the host's own resolvers (spec 5.1 to 5.4).
