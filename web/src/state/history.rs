//! Conversations of this browser: kept at the end of each answer, opened, edited, deleted.

use std::rc::Rc;

use cdi_node::view::Command;

use super::archive::{Chat, Keep, KeptTurn};
use super::{Parameters, Screen, State};

/// Most conversations kept; the oldest makes room.
const MAX_CHATS: usize = 100;

impl State {
    /// What the browser has to store since the last call.
    pub fn take_keep(&mut self) -> Vec<Keep> {
        std::mem::take(&mut self.keep)
    }

    /// The shown conversation as it is kept; nothing before its first answer has ended.
    #[must_use]
    pub fn kept_chat(&self) -> Option<Rc<Chat>> {
        let id = self.chat.as_deref()?;
        self.chats.iter().find(|chat| chat.id == id).cloned()
    }

    pub(super) fn keep_chat(&mut self) {
        let turns: Vec<_> = self.past.iter().chain([&self.current]).filter_map(|turn| KeptTurn::of(turn)).collect();
        let Some(id) = self.chat.clone() else { return };
        let chat = Chat { id, changed_ms: 0, turns };
        let chats = Rc::make_mut(&mut self.chats);
        chats.retain(|kept| kept.id != chat.id);
        chats.insert(0, Rc::new(chat.clone()));
        self.keep.extend(chats.drain(MAX_CHATS.min(chats.len())..).map(|old| Keep::Forget(old.id.clone())));
        self.keep.push(Keep::Chat(chat));
    }

    pub(super) fn open_chat(&mut self, id: &str) -> Option<Command> {
        self.screen = Screen::Chat;
        if self.chat.as_deref() == Some(id) {
            return None;
        }
        let chat = Rc::clone(self.chats.iter().find(|chat| chat.id == id)?);
        let stop = self.new_chat();
        let mut turns = chat.shown();
        self.current = turns.pop().unwrap_or_default();
        self.past = Rc::new(turns);
        self.chat = Some(chat.id.clone());
        stop
    }

    pub(super) fn delete_chat(&mut self, id: &str) -> Option<Command> {
        Rc::make_mut(&mut self.chats).retain(|chat| chat.id != id);
        self.keep.push(Keep::Forget(id.to_owned()));
        if self.chat.as_deref() == Some(id) { self.new_chat() } else { None }
    }

    pub(super) fn edit(&mut self, turn: usize) {
        let questions = self.past.iter().chain([&self.current]);
        let Some(question) = questions.map(|turn| turn.question.as_str()).nth(turn).filter(|_| self.can_ask()) else {
            return;
        };
        self.draft = (self.draft.0.wrapping_add(1), question.into());
        self.editing = Some(turn);
    }

    pub(super) fn restore(&mut self, kept: Vec<Chat>, parameters: Option<Parameters>) {
        // The user may have been quicker than the storage.
        let chats = Rc::make_mut(&mut self.chats);
        for chat in kept {
            if chats.len() < MAX_CHATS && chats.iter().all(|newer| newer.id != chat.id) {
                chats.push(Rc::new(chat));
            }
        }
        if let Some(parameters) = parameters {
            self.parameters = Rc::new(parameters.bounded());
        }
    }
}
