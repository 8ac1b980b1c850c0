//! Typed numbers.

/// Declares a typed number: `id_type!(pub struct Offset(i64));`.
///
/// The type is `Copy`, ordered, hashable, prints as the bare number, and converts only explicitly
/// (`Offset(5)`, `.get()`), so two kinds of number never mix by accident.
#[macro_export]
macro_rules! id_type {
    ($(#[$meta:meta])* $vis:vis struct $name:ident($inner:ty);) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        $vis struct $name(pub $inner);

        impl $name {
            /// The bare number.
            #[inline]
            pub const fn get(self) -> $inner {
                self.0
            }
            /// The number `by` steps further on.
            #[inline]
            #[must_use]
            pub const fn plus(self, by: $inner) -> Self {
                Self(self.0 + by)
            }
            /// The next number.
            #[inline]
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
        impl ::std::fmt::Debug for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }
        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

#[cfg(test)]
mod tests {
    id_type!(
        /// A number for the test.
        pub struct Step(i64);
    );

    #[test]
    fn ids_print_as_numbers_and_order() {
        assert_eq!(format!("{} {:?}", Step(3), Step(4)), "3 4");
        assert!(Step(3) < Step(3).next());
        assert_eq!(Step(3).plus(4).get(), 7);
    }
}
