//! `cdi-relay keys`: makes, lists and revokes keys of the API.

use std::path::PathBuf;

use cdi_gateway::keys::{Entry, KeyFile, Limits};
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file of keys, as for --api-keys. It is made with the first key.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes a key and shows it, once: the file holds its hash only.
    Add {
        /// Whom it is for.
        name: String,
        /// Requests in a minute. Without it: any number.
        #[arg(long, value_name = "NUMBER")]
        requests_a_minute: Option<u32>,
        /// Tokens in a day, of prompts and answers together. Without it: any number.
        #[arg(long, value_name = "NUMBER")]
        tokens_a_day: Option<u64>,
    },
    /// Lists for whom there are keys.
    List,
    /// Takes a key away.
    Revoke {
        /// Whose it is.
        name: String,
    },
}

impl Arguments {
    /// Does what was asked.
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let mut file = KeyFile::read(&self.file)?;
        match self.action {
            Action::Add { name, requests_a_minute, tokens_a_day } => {
                let key = file.add(&name, Limits { requests_a_minute, tokens_a_day })?;
                file.write(&self.file)?;
                println!("{key}");
                eprintln!("This is the key of {name}. It is shown only now.");
            }
            Action::List => file.keys.iter().for_each(|entry| println!("{}", line(entry))),
            Action::Revoke { name } => {
                file.revoke(&name)?;
                file.write(&self.file)?;
                eprintln!("The key of {name} is revoked.");
            }
        }
        Ok(())
    }
}

fn line(entry: &Entry) -> String {
    let limit = |limit: Option<u64>| limit.map_or_else(|| "any".to_owned(), |limit| limit.to_string());
    let Entry { name, limits: Limits { requests_a_minute, tokens_a_day }, .. } = entry;
    format!(
        "{name}\t{} requests a minute\t{} tokens a day",
        limit(requests_a_minute.map(u64::from)),
        limit(*tokens_a_day)
    )
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use crate::{Arguments, Tool};

    #[test]
    fn keys_are_made_listed_and_revoked() {
        Arguments::command().debug_assert();
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("keys.json");
        let run = |words: &str| {
            let words = words.split(' ').map(Into::into);
            let all = ["cdi-relay".into(), "keys".into(), "--file".into(), file.clone().into_os_string()];
            let arguments = Arguments::try_parse_from(all.into_iter().chain(words))?;
            let Some(Tool::Keys(keys)) = arguments.tool else { unreachable!("that is what was asked for") };
            keys.run()
        };
        run("add alice --requests-a-minute 5").expect("a key");
        run("list").expect("one");
        assert!(std::fs::read_to_string(&file).expect("a file").contains("\"requests_a_minute\": 5"));
        assert!(run("add alice").is_err(), "there is one");
        run("revoke alice").expect("gone");
        assert!(run("revoke alice").is_err(), "there is none");
        assert!(Arguments::try_parse_from(["cdi-relay", "--lan", "keys", "--file", "x", "list"]).is_err());
    }
}
