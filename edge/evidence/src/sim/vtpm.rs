//! The vTPM of a simulated paravisor: registers that an image left, and a key that signs them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cocoon_attest::Digest32;
use cocoon_attest::vtpm::{REGISTERS, VtpmQuote};

use crate::fault::{EvidenceFault, crypto};

/// Begins an `RSAPublicKey` of 2048 bits with the exponent 65537; 256 bytes of modulus follow.
const PUBLIC_KEY: [u8; 9] = [0x30, 0x82, 1, 0x0a, 2, 0x82, 1, 1, 0];

/// A vTPM that booted one image.
pub struct SimulatedVtpm {
    key: RsaKeyPair,
    registers: Vec<(u8, Digest32)>,
}

impl SimulatedVtpm {
    /// Draws a key, and measures the image as firmware and loader would.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn boot(image: &str) -> Result<Self, EvidenceFault> {
        let value = |number: u8| match number {
            0..=15 => Digest32::sha256(&[b"register of ", image.as_bytes(), &[number]]),
            // Those of a dynamic launch, which never happened.
            17..=22 => Digest32::from([0xff; 32]),
            _ => Digest32::ZERO,
        };
        let registers = (0..REGISTERS).map(|number| (number, value(number))).collect();
        let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(crypto)?;
        Ok(Self { key, registers })
    }

    /// Returns the registers of the SHA-256 bank, ascending.
    #[must_use]
    pub fn registers(&self) -> &[(u8, Digest32)] {
        &self.registers
    }

    /// Signs the registers, whatever the extra data are, as a real one does.
    ///
    /// # Errors
    /// The cryptographic library failed.
    pub fn quote(&self, extra_data: &Digest32) -> Result<VtpmQuote, EvidenceFault> {
        let values: Vec<&[u8]> = self.registers.iter().map(|(_, value)| &value.0[..]).collect();
        // TPMS_ATTEST: TPM_GENERATED_VALUE and TPM_ST_ATTEST_QUOTE; the key's name; the extra data;
        // clock and firmware; 24 registers of one bank; their digest.
        let mut attest = vec![0xff, 0x54, 0x43, 0x47, 0x80, 0x18];
        attest.extend(counted(&[0x0b; 34]));
        attest.extend(counted(&extra_data.0));
        attest.extend_from_slice(&[0; 25]);
        attest.extend_from_slice(&[0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff]);
        attest.extend(counted(&Digest32::sha256(&values).0));
        let mut signed = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &attest, &mut signed)
            .map_err(crypto)?;
        // TPMT_SIGNATURE: RSASSA, SHA-256.
        let mut signature = vec![0, 0x14, 0, 0x0b];
        signature.extend(counted(&signed));
        Ok(VtpmQuote { attest, signature, registers: self.registers.clone() })
    }

    /// Returns the text that the paravisor has the processor vouch for.
    pub(super) fn runtime_data(&self, user_data: &[u8; 64]) -> Result<String, EvidenceFault> {
        let modulus = self.key.public_key().as_ref().strip_prefix(&PUBLIC_KEY);
        let modulus = modulus.and_then(|rest| rest.get(..256)).ok_or(EvidenceFault::Crypto)?;
        Ok(format!(
            r#"{{"keys":[{{"kid":"HCLAkPub","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{}"}}],"vm-configuration":{{"secure-boot":true}},"user-data":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(modulus),
            hex::encode_upper(user_data)
        ))
    }
}

/// A string behind its length of two bytes.
fn counted(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes()[..], bytes].concat()
}
