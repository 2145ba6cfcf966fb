//! What past runs found goes through every build again.

use cocoon_fuzz::{TARGETS, corpus};

#[test]
fn every_kept_input_is_survived() {
    let mut inputs = 0;
    for target in TARGETS {
        let kept = corpus::read(&corpus::path(target.name)).expect("readable");
        assert!(!kept.is_empty(), "{} has no corpus", target.name);
        kept.iter().for_each(|input| (target.run)(input));
        inputs += kept.len();
    }
    assert!(inputs > 1_000, "{inputs} inputs");
}

#[test]
fn a_corpus_reads_as_it_was_written() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let inputs = vec![vec![], vec![1], vec![0, 2, 3]];
    corpus::write(file.path(), inputs.iter().rev().cloned().collect()).expect("written");
    assert_eq!(corpus::read(file.path()).expect("readable"), inputs);
    std::fs::write(file.path(), [9, 0, 0, 0, 1]).expect("written");
    assert!(corpus::read(file.path()).is_err());
}
