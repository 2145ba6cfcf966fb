//! The file in which the owner of a machine vouches for it.

use cocoon_attest::{Digest32, ENDORSEMENT_TEXT_LIMIT, SignedEndorsement};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock;
use crate::config::ConfigFault;

/// An endorsement that a node shows beside its evidence. It is read anew for each peer, so that a
/// renewed one counts at once. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EndorsementFile(Option<Arc<Kept>>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    network_id: i32,
    root_contract: Digest32,
    id: Digest32,
}

impl EndorsementFile {
    /// Opens the file of a node in this network (id and root contract) that states this id; an
    /// empty path is none. Whether it is about this machine, only whoever sees evidence can say.
    ///
    /// # Errors
    /// [`ConfigFault::Member`]: it is none, or about another node, or its time is over.
    pub fn open(
        path: &Path,
        (network_id, root_contract): (i32, Digest32),
        id: Digest32,
    ) -> Result<Self, ConfigFault> {
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        let kept = Kept { path: path.to_owned(), network_id, root_contract, id };
        let member = "endorsement_file";
        let fault =
            |fault| ConfigFault::Member { member, reason: format!("{}: {fault}", path.display()) };
        kept.read().map_err(fault)?;
        Ok(Self(Some(Arc::new(kept))))
    }

    /// The endorsement as peers get it; nothing where there is none, or none that counts now. A
    /// peer that wants one then says so itself.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let kept = self.0.as_ref()?;
        match kept.read() {
            Ok(signed) => Some(signed.encode()),
            Err(fault) => {
                let path = kept.path.display();
                tracing::warn!(%path, fault, "the owner's endorsement is not shown");
                None
            }
        }
    }
}

impl Kept {
    fn read(&self) -> Result<SignedEndorsement, String> {
        let mut text = Vec::new();
        let limit = ENDORSEMENT_TEXT_LIMIT as u64 + 1;
        let read = std::fs::File::open(&self.path)
            .and_then(|file| file.take(limit).read_to_end(&mut text).map(drop));
        read.map_err(|fault| fault.to_string())?;
        let signed = SignedEndorsement::of_text(&text).map_err(|fault| fault.to_string())?;
        let now_s = clock::now_ms() / 1000;
        signed
            .check(self.network_id, self.root_contract, now_s)
            .map_err(|fault| fault.to_string())?;
        let (id, own) = (signed.endorsement.id, self.id);
        if id != own {
            return Err(format!("it is about the id {id}, and this node's is {own}"));
        }
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cocoon_attest::{Endorsement, PlatformId};
    use ed25519_dalek::SigningKey;

    const NETWORK: (i32, Digest32) = (-3, Digest32::ZERO);
    const ID: Digest32 = cocoon_attest::Digest([6; 32]);

    fn signed(id: Digest32, life_s: u64) -> SignedEndorsement {
        let endorsement = Endorsement {
            owner: Digest32::ZERO,
            network_id: NETWORK.0,
            root_contract: NETWORK.1,
            id,
            platform: PlatformId::IntelPpid("ab".repeat(16)),
            not_after_s: clock::now_ms() / 1000 + life_s,
        };
        endorsement.sign(&SigningKey::from_bytes(&[7; 32]))
    }

    #[test]
    fn a_node_shows_what_its_owner_signed_for_it_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endorsement");
        let open = || EndorsementFile::open(&path, NETWORK, ID);
        assert!(EndorsementFile::open(Path::new(""), NETWORK, ID).unwrap().bytes().is_none());
        let said = |fault: ConfigFault| fault.to_string();
        assert!(said(open().unwrap_err()).contains("endorsement_file"));
        let good = signed(ID, 600);
        std::fs::write(&path, good.to_text()).unwrap();
        let file = open().unwrap();
        assert_eq!(file.bytes(), Some(good.encode()));
        let other = EndorsementFile::open(&path, (-239, NETWORK.1), ID).unwrap_err();
        assert!(said(other).contains("it is about network -3"));
        // What is renewed counts at once; what cannot be used is not shown.
        let renewed = signed(ID, 900);
        std::fs::write(&path, renewed.to_text()).unwrap();
        assert_eq!(file.bytes(), Some(renewed.encode()));
        for bad in [signed(Digest32::ZERO, 600).to_text(), String::new(), "A".repeat(5_000)] {
            std::fs::write(&path, bad).unwrap();
            assert_eq!(file.bytes(), None);
            assert!(open().is_err());
        }
    }
}
