//! Named counters, declared in one place each and read by name everywhere.

/// Declares a struct of `u64` counters whose names and meanings can be listed.
macro_rules! counters {
    ($(#[$doc:meta])* $vis:vis struct $type:ident { $($name:ident: $help:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
        $vis struct $type { $(#[doc = $help] pub $name: u64,)+ }

        impl $type {
            /// Name, meaning and value of each, in order of declaration.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), $help, self.$name)),+].into_iter()
            }
        }
    };
}

pub(crate) use counters;
