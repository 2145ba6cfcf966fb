//! Who checks signatures: AWS-LC, three times as fast over P-384 as `ring`, whose interface it has;
//! `ring` in a browser, where AWS-LC does not build.

#[cfg(not(target_family = "wasm"))]
pub(crate) use aws_lc_rs::signature::*;
#[cfg(target_family = "wasm")]
pub(crate) use ring::signature::*;
