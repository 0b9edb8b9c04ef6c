//! The guests that come with Vitrine: they need no firmware and no file.

/// A guest that comes with Vitrine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The name by which `vitrine run` and profiles know it.
    pub name: &'static str,
    /// One sentence for its card.
    pub description: &'static str,
    /// Flat code for 0x7C00.
    pub image: &'static [u8],
}

/// All of them. Sources lie beside the images in `assets/guest`; `packaging/test.sh` compares both.
pub const ALL: [BuiltIn; 1] = [BuiltIn {
    name: "vitrine",
    description: "A small program on the bare machine: a clock, the keyboard, graphics and a tune.",
    image: include_bytes!("../../assets/guest/vitrine.bin"),
}];

/// The one called `name`.
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    ALL.iter().find(|guest| guest.name == name)
}

/// Their names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|guest| guest.name).collect()
}
