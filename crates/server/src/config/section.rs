//! How a section of settings is declared: once, with its documentation.

/// Declares a section: a struct with a field per setting, the list of its settings for the
/// reference (`FIELDS`), and how it is read. A setting is
///
/// ```text
/// /// Documentation: what it is, its unit; the first line stands alone.
/// key: Type, flag "flag-name", default "as text" { expression };
/// ```
///
/// The default's expression may use the settings above it and the sections named after `from`;
/// its text goes to the reference. Environment names follow from section and key.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        pub struct $name:ident[$section:literal] $(from $other:ident: &$other_type:ty)? {
            $(
                $(#[doc = $doc:literal])*
                $field:ident: $type:ty, $(flag $flag:literal,)? default $text:literal $value:block;
            )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl $name {
            /// The section's settings, in the order of the reference.
            pub(super) const FIELDS: &'static [$crate::config::reader::Field] = &[
                $($crate::config::reader::Field {
                    section: $section,
                    key: stringify!($field),
                    flag: [$($flag,)? ""][0],
                    doc: &[$($doc),*],
                    default: $text,
                    expected: <$type as $crate::config::value::Value>::expected,
                    secret: <$type as $crate::config::value::Value>::SECRET,
                },)*
            ];

            /// What the section is for.
            pub(super) const DOC: &'static [&'static str] = &[$($section_doc),*];

            /// Reads the section from all sources.
            pub(super) fn read(
                reader: &mut $crate::config::reader::Reader<'_>,
                $($other: &$other_type,)?
            ) -> Self {
                $(let $field = reader.read::<$type>(Self::FIELDS, stringify!($field), || $value);)*
                Self { $($field),* }
            }
        }
    };
}

pub(super) use section;
