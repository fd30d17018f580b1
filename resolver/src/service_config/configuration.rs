//! Which configuration counts: what the channel was built with, and over it the last one that made sense.

use std::sync::Arc;

use super::{ServiceConfig, ServiceConfigError};

/// The configuration of a channel.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What the channel was built with.
    built: ServiceConfig,
    /// What counts.
    current: Arc<ServiceConfig>,
    /// The last text, to tell one that is told again.
    text: Option<String>,
    /// The text of what counts, if that was told.
    adopted: Option<Arc<str>>,
    /// What is wrong with it, if something is.
    rejected: Option<ServiceConfigError>,
}

/// What comes of a new text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// It counts from now on.
    Adopted,
    /// It makes no sense: what counted before still does.
    Rejected,
    /// It is the same as before.
    Known,
}

impl Configuration {
    pub(crate) fn new(built: ServiceConfig) -> Self {
        Self {
            current: Arc::new(built.clone()),
            built,
            text: None,
            adopted: None,
            rejected: None,
        }
    }

    /// Takes in what the configuration says now; `None` if there is none any more.
    pub(crate) fn tell(&mut self, text: Option<String>) -> Adoption {
        if text == self.text {
            return Adoption::Known;
        }
        let read = match &text {
            Some(text) => ServiceConfig::from_json(text),
            None => Ok(ServiceConfig::default()),
        };
        self.text = text;
        match read {
            Ok(config) => {
                self.adopted = self.text.as_deref().map(Arc::from);
                self.current = Arc::new(config.or(&self.built));
                self.rejected = None;
                Adoption::Adopted
            }
            Err(error) => {
                self.rejected = Some(error);
                Adoption::Rejected
            }
        }
    }

    /// Returns what counts.
    pub(crate) fn current(&self) -> &Arc<ServiceConfig> {
        &self.current
    }

    /// Returns the text of what counts; `None` if the channel is as it was built.
    pub(crate) fn adopted(&self) -> Option<&Arc<str>> {
        self.adopted.as_ref()
    }

    /// Returns what is wrong with the last text, if something is.
    pub(crate) fn rejected(&self) -> Option<&ServiceConfigError> {
        self.rejected.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(policy: &str) -> Option<String> {
        Some(format!(
            r#"{{ "loadBalancingConfig": [{{ "{policy}": {{}} }}] }}"#
        ))
    }

    #[test]
    fn one_that_makes_no_sense_leaves_the_last_one_in_force() {
        let mut configuration = Configuration::new(ServiceConfig::default());
        assert_eq!(configuration.tell(text("round_robin")), Adoption::Adopted);
        let good = configuration.current().clone();
        assert_eq!(configuration.tell(text("fastest")), Adoption::Rejected);
        assert!(Arc::ptr_eq(&good, configuration.current()));
        assert_eq!(
            configuration.adopted().map(|it| &**it),
            text("round_robin").as_deref()
        );
        let rejected = configuration.rejected().unwrap().to_string();
        assert!(rejected.starts_with("policy: fastest"), "{rejected}");
        assert_eq!(configuration.tell(text("fastest")), Adoption::Known);
        assert_eq!(configuration.tell(text("round_robin")), Adoption::Adopted);
        assert!(configuration.rejected().is_none());
    }

    #[test]
    fn without_one_the_channel_is_as_it_was_built() {
        let built = ServiceConfig::default().with_policy(crate::RoundRobin);
        let policy = built.policy();
        let mut configuration = Configuration::new(built);
        configuration.tell(text("round_robin"));
        assert!(!Arc::ptr_eq(&policy, &configuration.current().policy()));
        assert_eq!(configuration.tell(None), Adoption::Adopted);
        assert!(configuration.adopted().is_none());
        assert!(Arc::ptr_eq(&policy, &configuration.current().policy()));
        // What it does not mention is not changed.
        configuration.tell(Some("{}".to_owned()));
        assert!(Arc::ptr_eq(&policy, &configuration.current().policy()));
    }
}
