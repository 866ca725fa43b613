//! Lists whose entries carry the names that metrics show.

/// An enumeration that knows all of its entries, each with its name.
macro_rules! named {
    ($(#[$about:meta])+ $list:ident { $($(#[$doc:meta])+ $variant:ident = $name:literal,)+ }) => {
        $(#[$about])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $list { $($(#[$doc])+ $variant,)+ }

        impl $list {
            /// Every entry.
            pub const ALL: &[$list] = &[$($list::$variant,)+];

            /// The name that metrics carry.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $($list::$variant => $name,)+ }
            }
        }
    };
}

pub(crate) use named;
