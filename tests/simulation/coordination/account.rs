//! What a subscriber was told, held against what was sent: each message once and in order, or a gap,
//! and no gap without a reason.

use switchboard::coordination::{Message, Start, TopicError};

use super::history::{History, Life};

#[derive(Debug)]
pub(super) struct Account {
    /// Not before this life.
    life: usize,
    /// Whether something was told that is of this life and no other.
    is_certain: bool,
    /// The number of the last message that was told, or is lost.
    last: Option<u64>,
    /// What was gone at this revision of this life need not have been read: a list was.
    listed: i64,
    /// The life that it began in, and messages of that life up to this revision are none of its business.
    since: (usize, i64),
    /// Whether what is missing since then is told.
    is_exact: bool,
    start: Start,
    /// Up to which revision its life was compacted when it began.
    compacted: i64,
}

impl Account {
    /// Begins; the subscription was there in this life, as it is now.
    pub(super) fn begin(start: Start, life: usize, now: &Life) -> Self {
        let since = match start {
            Start::Now => now.revision,
            Start::Revision(revision) => revision - 1,
            _ => 0,
        };
        Self {
            life,
            is_certain: false,
            last: None,
            listed: 0,
            since: (life, since),
            is_exact: start != Start::Beginning,
            start,
            compacted: now.compacted,
        }
    }

    /// Returns whether all is told that was sent.
    pub(super) fn is_settled(&self, history: &History) -> bool {
        self.is_certain && self.life == history.life() && self.last == Some(history.now().head)
    }

    /// Takes in what is told; says what is wrong with it.
    pub(super) fn take(
        &mut self,
        history: &History,
        told: &Result<Message, TopicError>,
    ) -> Result<(), String> {
        match told {
            Ok(message) => self.message(history, message),
            Err(TopicError::Gap { first, last }) => self.gap(history, *first, *last),
            Err(TopicError::Anew) => {
                (self.life, self.compacted) = (self.life + 1, 0);
                (self.is_certain, self.last, self.listed) = (false, Some(0), 0);
                match self.life < history.lives.len() {
                    true => Ok(()),
                    false => Err("began anew, and nothing was wiped".to_owned()),
                }
            }
            Err(TopicError::Compacted(_)) => {
                let Start::Revision(revision) = self.start else {
                    return Err("never asked for a revision".to_owned());
                };
                let is_so = |life: &Life| life.compacted >= revision - 1;
                let was_exact = std::mem::replace(&mut self.is_exact, false);
                match was_exact && (history.life() > self.life || is_so(history.now())) {
                    true => Ok(()),
                    false => Err(format!("{revision} is not compacted")),
                }
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn message(&mut self, history: &History, message: &Message) -> Result<(), String> {
        let payload = String::from_utf8_lossy(&message.payload);
        let number = message.sequence;
        let lives = match self.is_certain {
            true => self.life..self.life + 1,
            false => self.life..history.lives.len(),
        };
        let is_of = |life: &usize| {
            let posted = history.lives[*life].messages.get(&number);
            posted.is_some_and(|it| it.payload == payload && it.revision == message.revision)
        };
        let Some(life) = lives.into_iter().find(is_of) else {
            return Err(format!("{number} {payload} never was, in {}", self.life));
        };
        let (since_life, since) = self.since;
        let wrong = match self.last {
            Some(last) if self.passes_over(history, life, last, number) => None,
            Some(last) if number != last + 1 => Some(format!("{number} comes after {last}")),
            Some(_) => None,
            None => {
                let since = if since_life == life { since } else { 0 };
                let is_exact = self.is_exact && since_life == life;
                let mut before = history.lives[life].messages.range(..number);
                let missed = before
                    .find(|(_, it)| it.revision > since && (is_exact || it.gone_at.is_none()));
                match missed {
                    Some((missed, _)) => {
                        Some(format!("{number} is the first, and {missed} is missed"))
                    }
                    None => (since_life == life
                        && self.start != Start::Now
                        && message.revision <= since)
                        .then(|| format!("{number} is from before {since}")),
                }
            }
        };
        let is_listed = !self.is_exact || since_life != life;
        if !self.is_certain && is_listed {
            self.listed = history.lives[life].revision;
        }
        (self.life, self.is_certain) = (life, true);
        self.last = Some(number);
        wrong.map_or(Ok(()), Err)
    }

    /// Returns whether all between two messages are from before the revision that was asked for: nobody
    /// knows that of those that were lost before it.
    fn passes_over(&self, history: &History, life: usize, last: u64, next: u64) -> bool {
        let (since_life, since) = self.since;
        let between = history.lives[life].messages.iter();
        let mut between = between.filter(|(number, _)| last < **number && **number < next);
        let may_be = !self.is_certain && !self.is_exact && since_life == life && last < next;
        may_be && between.all(|(_, it)| it.revision <= since)
    }

    fn gap(&mut self, history: &History, first: u64, last: u64) -> Result<(), String> {
        let follows = |it| first == it + 1 || self.passes_over(history, self.life, it, first);
        let follows = self.last.is_none_or(follows) && first <= last;
        self.last = Some(last);
        if !follows {
            return Err(format!(
                "the gap {first} to {last} is not where it is to be"
            ));
        }
        let now = history.now();
        if self.life < history.life() {
            // It was wiped, and so may all of them have been.
            return Ok(());
        }
        let mut are_listed = true;
        for number in first..=last {
            match now.messages.get(&number) {
                Some(posted) if posted.gone_at.is_none() => {
                    return Err(format!("{number} is told to be lost, and is there"));
                }
                Some(posted) => are_listed &= posted.gone_at.is_some_and(|it| it <= self.listed),
                None => return Err(format!("{number} is told to be lost, and never was")),
            }
        }
        match self.is_certain && !are_listed && now.compacted <= self.compacted {
            true => Err(format!(
                "{first} to {last} are lost, and nothing was compacted"
            )),
            false => Ok(()),
        }
    }
}
