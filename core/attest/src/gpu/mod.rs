//! NVIDIA GPU evidence: an SPDM measurement report and the device's certificate chain.

use serde::{Deserialize, Serialize};

/// Evidence of one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuEvidence {
    /// SPDM 1.1 `GET_MEASUREMENTS` request and response, as the driver returns them.
    pub report: Vec<u8>,
    /// Device certificate chain, PEM, leaf first.
    pub chain_pem: Vec<u8>,
}

/// What is accepted from GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuPolicy {
}
