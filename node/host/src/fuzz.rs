//! Entry points for fuzzers: what people write for a node, as arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::config::Layers;
use crate::network::read_pseudo;

/// Any configuration of a role: the first line is a flag `member=value`, the rest the file. Gives
/// what was read.
///
/// # Panics
/// When what is printed for `--print-config` does not read back.
pub fn settings<T: Default + Serialize + DeserializeOwned>(data: &[u8]) -> Option<T> {
    let text = String::from_utf8_lossy(data);
    let (flag, file) = text.split_once('\n').unwrap_or(("", &text));
    let mut layers = Layers::defaults(&T::default()).ok()?;
    layers.lay(file).ok()?;
    if !flag.is_empty() {
        layers = layers.set(flag).ok()?;
    }
    let settings = layers.build().ok()?;
    let mut again = Layers::default();
    assert!(again.lay(&layers.print()).is_ok(), "the printed configuration is no TOML");
    assert!(again.build::<T>().is_ok(), "the printed configuration is refused");
    Some(settings)
}

/// Any registry of a network without a chain.
pub fn network(data: &[u8]) {
    let _ = read_pseudo(&String::from_utf8_lossy(data));
}
