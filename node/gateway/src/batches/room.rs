//! Room for files and batches: so much in all, so much for each API key.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Batches;
use super::book::Book;

/// No room is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowded {
    /// The key has all that one key may have.
    Key {
        /// The limit.
        max: usize,
    },
    /// Everybody together has all that is kept.
    All {
        /// The limit.
        max: usize,
    },
}

/// Keeps a place for a file that is coming in.
pub(super) struct Place {
    batches: Arc<Batches>,
    owner: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut coming = self.batches.coming();
        if let Some(count) = coming.get_mut(&self.owner) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                coming.remove(&self.owner);
            }
        }
    }
}

impl Batches {
    fn coming(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a place for a file of this owner until it is in the book. Waits for the disk.
    pub(super) fn reserve(self: &Arc<Self>, owner: &str, now_s: u64) -> Result<Place, Crowded> {
        self.note(|book| self.check_room(book, owner, 1, now_s))?;
        *self.coming().entry(owner.to_owned()).or_default() += 1;
        Ok(Place { batches: self.clone(), owner: owner.to_owned() })
    }

    /// Checks whether so many places are free, and forgets batches of other days where they are not.
    pub(super) fn check_room(
        &self,
        book: &mut Book,
        owner: &str,
        places: usize,
        now_s: u64,
    ) -> Result<(), Crowded> {
        loop {
            let (all, own) = book.places(owner);
            let (all_coming, own_coming) = {
                let coming = self.coming();
                (coming.values().sum::<usize>(), coming.get(owner).copied().unwrap_or_default())
            };
            let (max, key_max) = (self.config.kept_max, self.config.kept_per_key_max);
            // Without keys everybody is one owner.
            let has_limit = key_max > 0 && !owner.is_empty();
            let (crowded, whose) = if has_limit && own + own_coming + places > key_max {
                (Crowded::Key { max: key_max }, Some(owner))
            } else if all + all_coming + places > max {
                (Crowded::All { max }, None)
            } else {
                return Ok(());
            };
            if !book.forget_oldest(whose, now_s) {
                return Err(crowded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::BatchConfig;
    use super::super::book::WINDOW_S;
    use super::*;

    fn record(id: &str, owner: &str, stage: &str, ended_s: Option<u64>) -> String {
        format!(
            r#"{{"id":"{id}","owner":"{owner}","endpoint":"","input_file":"","output_file":null,"error_file":null,
            "stage":"{stage}","created_s":0,"ended_s":{},"cancelled_s":null,"total":0,"completed":0,"failed":0,
            "metadata":null,"faults":[]}}"#,
            ended_s.map_or("null".to_owned(), |at| at.to_string())
        )
    }

    #[test]
    fn each_key_has_its_room_and_all_together_have_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let config = BatchConfig {
            kept_max: 10,
            kept_per_key_max: 4,
            ..BatchConfig::in_folder(folder.path().to_owned())
        };
        let batches = Arc::new(Batches::open(&config).unwrap());
        let reserve = |owner: &str| batches.reserve(owner, 0);
        let own: Vec<Place> = (0..4).map(|_| reserve("a").unwrap_or_else(|_| panic!())).collect();
        assert_eq!(reserve("a").err(), Some(Crowded::Key { max: 4 }));
        let others: Vec<Place> = ["b", "b", "b", "c", "c", "c"]
            .into_iter()
            .map(|owner| reserve(owner).unwrap_or_else(|_| panic!("{owner}")))
            .collect();
        assert_eq!(reserve("d").err(), Some(Crowded::All { max: 10 }));
        drop(own);
        assert!(reserve("d").is_ok());
        drop(others);
        assert!(batches.coming().is_empty());
    }

    #[test]
    fn batches_of_other_days_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let config = BatchConfig {
            kept_max: 5,
            kept_per_key_max: 4,
            ..BatchConfig::in_folder(folder.path().to_owned())
        };
        let batches = Arc::new(Batches::open(&config).unwrap());
        let mut book = Book::default();
        for (id, stage, ended_s) in [("1", "completed", Some(5)), ("2", "in_progress", None)] {
            let record = serde_json::from_str(&record(id, "a", stage, ended_s)).unwrap();
            book.batches.insert(id.to_owned(), record);
        }
        // One that ended, and one that may leave two files.
        assert_eq!(book.places("a"), (4, 4));
        let mut check = |owner: &str, now_s| batches.check_room(&mut book, owner, 1, now_s);
        assert_eq!(check("a", WINDOW_S + 4), Err(Crowded::Key { max: 4 }));
        assert_eq!(check("b", WINDOW_S + 4), Ok(()));
        assert_eq!(check("a", WINDOW_S + 5), Ok(()));
        assert_eq!(book.batches.keys().collect::<Vec<_>>(), ["2"]);
    }
}
