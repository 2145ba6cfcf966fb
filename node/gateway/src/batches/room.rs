//! Room for files and batches: so much in all, so much for each API key.

use std::collections::HashMap;
use std::ops::{Add, AddAssign, SubAssign};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::Batches;
use super::book::Book;

/// What files and batches take, or may take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Room {
    /// Files and batches.
    pub(super) places: usize,
    /// Bytes of files.
    pub(super) bytes: u64,
}

impl Room {
    /// What is passed, where this is more than `max`.
    fn beyond(self, max: Room) -> Option<Limit> {
        if self.places > max.places {
            Some(Limit::Places(max.places))
        } else if self.bytes > max.bytes {
            Some(Limit::Bytes(max.bytes))
        } else {
            None
        }
    }
}

impl Add for Room {
    type Output = Room;

    fn add(self, other: Room) -> Room {
        Room {
            places: self.places.saturating_add(other.places),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl AddAssign for Room {
    fn add_assign(&mut self, other: Room) {
        *self = *self + other;
    }
}

impl SubAssign for Room {
    fn sub_assign(&mut self, other: Room) {
        self.places = self.places.saturating_sub(other.places);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// No room is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Crowded {
    pub(super) whose: Whose,
    pub(super) limit: Limit,
}

/// Whose room is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// That of one key.
    Key,
    /// That of everybody together.
    All,
}

/// What would be passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// The most files and batches.
    Places(usize),
    /// The most bytes.
    Bytes(u64),
}

/// Keeps room for a file that is coming in.
pub(super) struct Place {
    batches: Arc<Batches>,
    owner: String,
    room: Room,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut coming = self.batches.coming();
        if let Some(room) = coming.get_mut(&self.owner) {
            *room -= self.room;
            if *room == Room::default() {
                coming.remove(&self.owner);
            }
        }
    }
}

impl Batches {
    fn coming(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.coming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps room for a file of this owner until it is in the book. Waits for the disk.
    pub(super) fn reserve(
        self: &Arc<Self>,
        owner: &str,
        bytes: u64,
        now_s: u64,
    ) -> Result<Place, Crowded> {
        let room = Room { places: 1, bytes };
        self.note(|book| {
            self.check_room(book, owner, room, now_s)?;
            *self.coming().entry(owner.to_owned()).or_default() += room;
            Ok(())
        })?;
        Ok(Place { batches: self.clone(), owner: owner.to_owned(), room })
    }

    /// Checks whether so much is free, and forgets batches of other days where places are not.
    pub(super) fn check_room(
        &self,
        book: &mut Book,
        owner: &str,
        wanted: Room,
        now_s: u64,
    ) -> Result<(), Crowded> {
        loop {
            let Some(crowded) = self.crowded(book, owner, wanted) else { return Ok(()) };
            // A batch is no file: without it there are not more bytes.
            let may_help = matches!(crowded.limit, Limit::Places(_));
            let whose = (crowded.whose == Whose::Key).then_some(owner);
            if !may_help || !book.forget_oldest(whose, now_s) {
                return Err(crowded);
            }
        }
    }

    fn crowded(&self, book: &Book, owner: &str, wanted: Room) -> Option<Crowded> {
        let (mut all, mut own) = book.room(owner);
        for (whose, room) in self.coming().iter() {
            all += *room;
            if whose == owner {
                own += *room;
            }
        }
        let config = &self.config;
        let max = Room { places: config.kept_max, bytes: config.kept_bytes };
        // Without keys everybody is one owner.
        let is_key = !owner.is_empty();
        let key_max = Room {
            places: Some(config.kept_per_key_max)
                .filter(|max| is_key && *max > 0)
                .unwrap_or(usize::MAX),
            bytes: Some(config.kept_per_key_bytes)
                .filter(|max| is_key && *max > 0)
                .unwrap_or(u64::MAX),
        };
        let of = |whose| move |limit| Crowded { whose, limit };
        let key = (own + wanted).beyond(key_max).map(of(Whose::Key));
        key.or_else(|| (all + wanted).beyond(max).map(of(Whose::All)))
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
        let reserve = |owner: &str| batches.reserve(owner, 0, 0);
        let key_is_full = Crowded { whose: Whose::Key, limit: Limit::Places(4) };
        let all_is_full = Crowded { whose: Whose::All, limit: Limit::Places(10) };
        let own: Vec<Place> = (0..4).map(|_| reserve("a").unwrap_or_else(|_| panic!())).collect();
        assert_eq!(reserve("a").err(), Some(key_is_full));
        let others: Vec<Place> = ["b", "b", "b", "c", "c", "c"]
            .into_iter()
            .map(|owner| reserve(owner).unwrap_or_else(|_| panic!("{owner}")))
            .collect();
        assert_eq!(reserve("d").err(), Some(all_is_full));
        drop(own);
        assert!(reserve("d").is_ok());
        drop(others);
        assert!(batches.coming().is_empty());
    }

    #[test]
    fn bytes_are_room_too() {
        let folder = tempfile::tempdir().unwrap();
        let config = BatchConfig {
            kept_bytes: 100,
            kept_per_key_bytes: 40,
            ..BatchConfig::in_folder(folder.path().to_owned())
        };
        let batches = Arc::new(Batches::open(&config).unwrap());
        let reserve = |owner: &str, bytes| batches.reserve(owner, bytes, 0);
        let refused = |owner: &str, bytes| reserve(owner, bytes).err();
        let key_is_full = Some(Crowded { whose: Whose::Key, limit: Limit::Bytes(40) });
        let all_is_full = Some(Crowded { whose: Whose::All, limit: Limit::Bytes(100) });
        let own = reserve("a", 40).unwrap_or_else(|_| panic!());
        assert_eq!((refused("a", 1), refused("b", 41)), (key_is_full, key_is_full));
        let keyless = reserve("", 60).unwrap_or_else(|_| panic!());
        assert_eq!(refused("b", 1), all_is_full);
        drop((own, keyless));
        let known =
            r#"{"id":"1","owner":"a","name":"","purpose":"batch","bytes":39,"created_s":0}"#;
        let known = serde_json::from_str(known).unwrap();
        batches.note(|book| book.files.insert("1".to_owned(), known));
        assert_eq!((refused("a", 2), refused("a", 1)), (key_is_full, None));
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
        let four = Room { places: 4, bytes: 0 };
        assert_eq!(book.room("a"), (four, four));
        let one = Room { places: 1, bytes: 0 };
        let mut check = |owner: &str, now_s| batches.check_room(&mut book, owner, one, now_s);
        let full = Crowded { whose: Whose::Key, limit: Limit::Places(4) };
        assert_eq!(check("a", WINDOW_S + 4), Err(full));
        assert_eq!(check("b", WINDOW_S + 4), Ok(()));
        assert_eq!(check("a", WINDOW_S + 5), Ok(()));
        assert_eq!(book.batches.keys().collect::<Vec<_>>(), ["2"]);
    }
}
