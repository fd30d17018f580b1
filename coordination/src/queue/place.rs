//! Where a queue lies, which keys are its items, and in which order they are popped.

use std::cmp::Reverse;

use switchboard_registry::{
    NameError,
    keys::{By, KeyPath, KeyRange, Selection},
};

use super::page::Found;

/// Which item is popped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// What was pushed first.
    Oldest,
    /// What was pushed last.
    Newest,
    /// What has the smallest priority, and of those what was pushed first.
    Smallest,
}

/// Where a queue lies.
#[derive(Debug)]
pub(super) struct Place {
    name: KeyPath,
    order: Order,
}

impl Place {
    pub(super) fn new(name: KeyPath, order: Order) -> Result<Self, NameError> {
        let name = name.outside_kratos()?;
        Ok(Self { name, order })
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    pub(super) fn range(&self) -> KeyRange {
        KeyRange::Under(self.prefix())
    }

    /// Returns what the keys of items begin with.
    pub(super) fn prefix(&self) -> String {
        format!("{}/", self.name)
    }

    /// Returns whether a key is an item. Others may keep keys of their own below a queue.
    pub(super) fn is_item(&self, key: &[u8]) -> bool {
        let below = key.strip_prefix(self.name.as_str().as_bytes());
        let Some(below) = below.and_then(|rest| rest.strip_prefix(b"/")) else {
            return false;
        };
        let mut parts = below.split(|byte| *byte == b'/');
        match (self.order, parts.next(), parts.next(), parts.next()) {
            (Order::Smallest, Some(priority), Some(number), None) => {
                is_priority(priority) && is_number(number)
            }
            (Order::Oldest | Order::Newest, Some(time), None, None) => is_time(time),
            _ => false,
        }
    }

    /// Puts items into the order in which they are popped.
    pub(super) fn sort(&self, items: &mut [Found]) {
        match self.order {
            Order::Oldest => items.sort_by_key(|item| item.revision),
            Order::Newest => items.sort_by_key(|item| Reverse(item.revision)),
            Order::Smallest => items.sort_by(|one, other| one.key.cmp(&other.key)),
        }
    }

    /// Selects the keys that are popped first: so many, or all.
    pub(super) fn first(&self, limit: Option<u16>) -> Selection {
        let all = Selection::of(self.range()).keys_only();
        let sorted = match self.order {
            Order::Oldest => all.first(By::Change),
            Order::Newest => all.last(By::Change),
            Order::Smallest => all.first(By::Key),
        };
        match limit {
            Some(limit) => sorted.limit(limit),
            None => sorted,
        }
    }
}

/// Go's `%v` of `UnixNano`. What has five digits is none: the keys that guard the numbers of a priority
/// queue `a` would be items of a queue `__a`.
fn is_time(text: &[u8]) -> bool {
    (6..=19).contains(&text.len()) && is_digits(text) && text[0] != b'0'
}

/// Go's `%05d` of a `uint16`.
pub(crate) fn is_priority(text: &[u8]) -> bool {
    text.len() == 5 && is_digits(text) && text <= b"65535".as_slice()
}

/// Go's `%016d`.
pub(super) fn is_number(text: &[u8]) -> bool {
    text.len() == 16 && is_digits(text)
}

fn is_digits(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(order: Order) -> Place {
        Place::new("/jobs".parse().unwrap(), order).unwrap()
    }

    #[test]
    fn an_item_is_a_direct_child_that_is_a_time() {
        for order in [Order::Oldest, Order::Newest] {
            let place = place(order);
            assert!(place.is_item(b"/jobs/1764339190000000000"));
            assert!(place.is_item(crate::moment::key(&place.prefix()).as_bytes()));
            for stranger in [
                "/jobs",
                "/jobs/",
                "/jobs/1764339190000000000/",
                "/jobs/a/1764339190000000000",
                "/jobs/1764339190000000000/1764339190000000000",
                "/jobs/00005/0000000000000000",
                "/jobs-2/1764339190000000000",
                "/jobs2/1764339190000000000",
                "/jobs/00005",
                "/jobs/65535",
                "/jobs/0764339190000000000",
                "/jobs/-764339190000000000",
                "/jobs/config",
                "/jobs//1764339190000000000",
                "jobs/1764339190000000000",
            ] {
                assert!(!place.is_item(stranger.as_bytes()), "{stranger}");
            }
        }
    }

    #[test]
    fn an_item_of_a_priority_queue_is_two_numbers_of_their_width() {
        let place = place(Order::Smallest);
        assert!(place.is_item(b"/jobs/00000/0000000000000000"));
        assert!(place.is_item(b"/jobs/65535/9999999999999999"));
        for stranger in [
            "/jobs/00005",
            "/jobs/00005/",
            "/jobs/00005/000000000000000",
            "/jobs/00005/00000000000000000",
            "/jobs/00005/000000000000000a",
            "/jobs/65536/0000000000000000",
            "/jobs/0005/0000000000000000",
            "/jobs/00005/0000000000000000/0",
            "/jobs/x/00005/0000000000000000",
            "/jobs/1764339190000000000",
            "/jobs-2/00005/0000000000000000",
        ] {
            assert!(!place.is_item(stranger.as_bytes()), "{stranger}");
        }
    }

    #[test]
    fn the_namespace_of_kratos_is_no_place_for_a_queue() {
        for name in ["/microservices", "/microservices/jobs"] {
            Place::new(name.parse().unwrap(), Order::Oldest).unwrap_err();
        }
        assert!(Place::new("/microservices-2".parse().unwrap(), Order::Oldest).is_ok());
    }
}
