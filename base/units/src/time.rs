//! Points in time. They are inputs; nothing here asks a clock.

/// Milliseconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct UnixMs(pub u64);

/// Whole seconds since 1970-01-01 00:00:00 UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
pub struct UnixSeconds(pub u64);

impl UnixMs {
    /// Rounded down to whole seconds.
    #[must_use]
    pub const fn to_seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// Later by `ms`, at most the end of time.
    #[must_use]
    pub const fn saturating_add_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this point, or zero when it lies later.
    #[must_use]
    pub const fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Seconds with fraction, the form of the time stamps in `final_info`.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "exact below the year 287396")]
    pub fn to_wire_seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }
}

impl UnixSeconds {
    /// The same point in milliseconds, at most the end of time.
    #[must_use]
    pub const fn to_ms(self) -> UnixMs {
        UnixMs(self.0.saturating_mul(1000))
    }

    /// Later by `seconds`, at most the end of time.
    #[must_use]
    pub const fn saturating_add(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}
