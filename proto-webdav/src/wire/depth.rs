//! The `Depth` field (RFC 4918, section 10.2).

/// How far a request goes below its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The resource alone.
    Zero,
    /// And what is right below it.
    One,
    /// And all below it.
    Infinity,
}

impl Depth {
    /// As the field says it. `None` for what no depth is. `1,noroot` is Microsoft's: the root is given all
    /// the same, and who asked for it takes no harm.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text {
            "0" => Some(Depth::Zero),
            "1" => Some(Depth::One),
            _ if text.eq_ignore_ascii_case("1,noroot") => Some(Depth::One),
            _ if text.eq_ignore_ascii_case("infinity") => Some(Depth::Infinity),
            _ => None,
        }
    }

    /// What the field says.
    pub fn name(self) -> &'static str {
        match self {
            Depth::Zero => "0",
            Depth::One => "1",
            Depth::Infinity => "infinity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_depth_is_read_as_it_is_written() {
        for depth in [Depth::Zero, Depth::One, Depth::Infinity] {
            assert_eq!(Depth::parse(depth.name()), Some(depth));
        }
        assert_eq!(Depth::parse(" Infinity "), Some(Depth::Infinity));
        for bad in ["", "2", "-1", "0,1", "1,infinity"] {
            assert_eq!(Depth::parse(bad), None, "{bad}");
        }
    }
}
