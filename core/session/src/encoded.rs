//! A boxed object that is encoded already.

use bytes::BufMut;
use cocoon_wire::TlFault;
use cocoon_wire::tl::{Boxed, Reader};

/// The bytes of one boxed TL object, to be sent as they are. `Debug` shows the length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'tl>(pub &'tl [u8]);

impl std::fmt::Debug for Encoded<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Encoded({} bytes)", self.0.len())
    }
}

impl<'tl> Boxed<'tl> for Encoded<'tl> {
    fn read_boxed(reader: &mut Reader<'tl>) -> Result<Self, TlFault> {
        reader.take(reader.remaining().len()).map(Self)
    }

    fn boxed_size(&self) -> usize {
        self.0.len()
    }

    fn write_boxed<B: BufMut>(&self, out: &mut B) {
        out.put_slice(self.0);
    }
}
