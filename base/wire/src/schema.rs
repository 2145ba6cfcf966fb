//! Macros that turn a list of fields into a message with its encoding.
//!
//! A field is `name: Type`. `[flags] name: Extensions` is the position of the flags word;
//! `[N] name: Type` is a field guarded by bit N of it and becomes an `Option`. Fields that
//! share a bit are put into one group structure, so half a group cannot be expressed.

/// The Rust type of a field.
macro_rules! field_type {
    ([] $ty:ty) => { $ty };
    ([flags] $ty:ty) => { $ty };
    ([$bit:literal] $ty:ty) => { Option<$ty> };
}

/// The flags bit that a field owns.
macro_rules! field_bit {
    ([]) => {
        0u32
    };
    ([flags]) => {
        0u32
    };
    ([$bit:literal]) => {
        1u32 << $bit
    };
}

/// The flags bit that a field sets.
macro_rules! field_set {
    ([] $field:expr) => {
        0u32
    };
    ([flags] $field:expr) => {
        0u32
    };
    ([$bit:literal] $field:expr) => {
        if $field.is_some() { 1u32 << $bit } else { 0u32 }
    };
}

/// Reads a field.
macro_rules! field_read {
    ([] $reader:ident $flags:ident $known:ident $ty:ty) => {
        <$ty as $crate::tl::Tl<'tl>>::read($reader)?
    };
    ([flags] $reader:ident $flags:ident $known:ident $ty:ty) => {{
        $flags = $reader.flags()?;
        $crate::tl::Extensions($flags & !$known)
    }};
    ([$bit:literal] $reader:ident $flags:ident $known:ident $ty:ty) => {
        if $flags & (1u32 << $bit) == 0 {
            None
        } else {
            Some(<$ty as $crate::tl::Tl<'tl>>::read($reader)?)
        }
    };
}

/// Bytes of a field.
macro_rules! field_size {
    ([] $field:expr) => {
        $crate::tl::Tl::size(&$field)
    };
    ([flags] $field:expr) => {
        4usize
    };
    ([$bit:literal] $field:expr) => {
        $field.as_ref().map_or(0, $crate::tl::Tl::size)
    };
}

/// Writes a field.
macro_rules! field_write {
    ([] $field:expr, $out:ident, $flags:ident, $known:ident) => {
        $crate::tl::Tl::write(&$field, $out)
    };
    ([flags] $field:expr, $out:ident, $flags:ident, $known:ident) => {
        $out.put_u32_le(($flags | ($field.0 & !$known)) & !(1 << 31))
    };
    ([$bit:literal] $field:expr, $out:ident, $flags:ident, $known:ident) => {
        if let Some(field) = &$field {
            $crate::tl::Tl::write(field, $out);
        }
    };
}

/// Structures with a bare encoding and no constructor of their own.
macro_rules! tl_group {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$lt:lifetime>)? {
            $( $(#[$field_meta:meta])* $([$mark:tt])? $field:ident : $ty:ty ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        pub struct $name $(<$lt>)? {
            $( $(#[$field_meta])* pub $field: field_type!([$($mark)?] $ty), )*
        }

        #[allow(
            unused_variables,
            unused_mut,
            unused_assignments,
            dead_code,
            reason = "not every structure has flags"
        )]
        impl<'tl> $crate::tl::Tl<'tl> for $name $(<$lt>)? {
            fn read(reader: &mut $crate::tl::Reader<'tl>) -> Result<Self, $crate::TlFault> {
                const KNOWN: u32 = 0 $( | field_bit!([$($mark)?]) )*;
                let mut flags = 0u32;
                $( let $field = field_read!([$($mark)?] reader flags KNOWN $ty); )*
                Ok(Self { $($field),* })
            }

            fn size(&self) -> usize {
                0 $( + field_size!([$($mark)?] self.$field) )*
            }

            fn write<B: bytes::BufMut>(&self, out: &mut B) {
                const KNOWN: u32 = 0 $( | field_bit!([$($mark)?]) )*;
                let flags = 0u32 $( | field_set!([$($mark)?] self.$field) )*;
                $( field_write!([$($mark)?] self.$field, out, flags, KNOWN); )*
            }
        }
    )*};
}

/// Structures that are one constructor or function of the schema.
macro_rules! tl_struct {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$lt:lifetime>)? = $decl:literal $id:literal { $($fields:tt)* }
    )*) => {$(
        tl_group! { $(#[$meta])* $name $(<$lt>)? { $($fields)* } }

        impl $(<$lt>)? $crate::tl::Constructor for $name $(<$lt>)? {
            const ID: u32 = $id;
            const NAME: &'static str = $decl;
        }

        impl<'tl> $crate::tl::Boxed<'tl> for $name $(<$lt>)? {
            fn read_boxed(reader: &mut $crate::tl::Reader<'tl>) -> Result<Self, $crate::TlFault> {
                let offset = reader.offset();
                match reader.u32()? {
                    $id => $crate::tl::Tl::read(reader),
                    id => Err($crate::TlFault::UnknownConstructor { offset, id }),
                }
            }

            fn boxed_size(&self) -> usize {
                4 + $crate::tl::Tl::size(self)
            }

            fn write_boxed<B: bytes::BufMut>(&self, out: &mut B) {
                out.put_u32_le($id);
                $crate::tl::Tl::write(self, out);
            }
        }
    )*};
}

/// Types with several constructors. Their bare and boxed encodings are the same.
macro_rules! tl_enum {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$lt:lifetime>)? {
            $( $(#[$variant_meta:meta])* $variant:ident($ty:ty) ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        pub enum $name $(<$lt>)? {
            $( $(#[$variant_meta])* $variant($ty), )*
        }

        impl<'tl> $crate::tl::Boxed<'tl> for $name $(<$lt>)? {
            fn read_boxed(reader: &mut $crate::tl::Reader<'tl>) -> Result<Self, $crate::TlFault> {
                let offset = reader.offset();
                match reader.u32()? {
                    $( <$ty as $crate::tl::Constructor>::ID => {
                        $crate::tl::Tl::read(reader).map(Self::$variant)
                    } )*
                    id => Err($crate::TlFault::UnknownConstructor { offset, id }),
                }
            }

            fn boxed_size(&self) -> usize {
                match self { $( Self::$variant(value) => value.boxed_size(), )* }
            }

            fn write_boxed<B: bytes::BufMut>(&self, out: &mut B) {
                match self { $( Self::$variant(value) => value.write_boxed(out), )* }
            }
        }

        impl<'tl> $crate::tl::Tl<'tl> for $name $(<$lt>)? {
            fn read(reader: &mut $crate::tl::Reader<'tl>) -> Result<Self, $crate::TlFault> {
                $crate::tl::Boxed::read_boxed(reader)
            }

            fn size(&self) -> usize {
                $crate::tl::Boxed::boxed_size(self)
            }

            fn write<B: bytes::BufMut>(&self, out: &mut B) {
                $crate::tl::Boxed::write_boxed(self, out);
            }
        }
    )*};
}

/// What may arrive at one place of a session, sorted by constructor id.
macro_rules! tl_dispatch {
    ($(
        $(#[$meta:meta])*
        $name:ident $(<$lt:lifetime>)? {
            $( $(#[$variant_meta:meta])* $variant:ident($ty:ty) ),* $(,)?
        }
    )*) => {$(
        $(#[$meta])*
        pub enum $name $(<$lt>)? {
            $( $(#[$variant_meta])* $variant($ty), )*
            /// An id that has no meaning here; its content was not looked at.
            Unknown(u32),
        }

        impl $(<$lt>)? $name $(<$lt>)? {
            /// Reads one boxed object.
            ///
            /// # Errors
            /// [`TlFault`](crate::TlFault) when the id is known and the rest is not such an
            /// object, or when there is no id.
            pub fn decode(bytes: & $($lt)? [u8]) -> Result<Self, $crate::TlFault> {
                let mut reader = $crate::tl::Reader::new(bytes);
                let value = match reader.u32()? {
                    $( <$ty as $crate::tl::Constructor>::ID => {
                        Self::$variant($crate::tl::Tl::read(&mut reader)?)
                    } )*
                    id => return Ok(Self::Unknown(id)),
                };
                reader.finish()?;
                Ok(value)
            }

            /// Appends the boxed object; an unknown one is its id alone.
            pub fn encode_to<B: bytes::BufMut>(&self, out: &mut B) {
                match self {
                    $( Self::$variant(value) => $crate::tl::Boxed::write_boxed(value, out), )*
                    Self::Unknown(id) => out.put_u32_le(*id),
                }
            }
        }
    )*};
}
