//! Turns prompts into tokens: jobs, the sampler, grammars, text assembly and the loop that
//! decodes all sequences together.

pub(crate) mod assembler;
pub(crate) mod constraint;
pub(crate) mod job;
pub(crate) mod logprobs;
pub(crate) mod random;
pub(crate) mod sampler;
pub(crate) mod scheduler;
pub(crate) mod slot;
