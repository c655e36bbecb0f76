//! Every text of the page, in one place, so that it can be translated; figures are put in by [`crate::format`].
//! (What the node says in words of its own comes as it is; the loader's texts stand in `index.html`.)

// Header and navigation
pub const BRAND: &str = "CDI";
pub const TESTNET: &str = "TESTNET";
pub const TESTNET_TITLE: &str = "A test network: nothing on it is worth money";
pub const SKIP: &str = "Skip to the question box";
pub const CONNECTING: &str = "Connecting…";
pub const CONNECTED: &str = "Connected";
pub const OFFLINE: &str = "Offline";
pub const COMPUTES_WITH: &str = "Computes with: ";
pub const TIER_GPU: &str = "GPU";
pub const TIER_CPU: &str = "CPU";
pub const TIER_NONE: &str = "No compute";
pub const TIER_MEASURING: &str = "Measuring…";
pub const SWITCH_THEME: &str = "Switch between dark and light";
pub const SCREENS: &str = "Screens";
pub const NAV: [&str; 5] = ["Chat", "Host", "Swarm", "Models", "Identity"];

// Alerts
pub const NOT_KEPT: &str = "The conversation could not be kept in this browser";
pub const ERROR: &str = "Error";
pub const NOTICE: &str = "Notice";
pub const DISMISS: &str = "Dismiss";

// Landing
pub const LANDING_TITLE: &str = "A language model that runs in everybody’s browser tabs.";
pub const LANDING_LEAD: &str = "Each tab holds a few layers; your question travels through them, and the answer keeps \
    coming when one closes.";
pub const LEND: &str = "Lend this tab";
pub const LIVE_NETWORK: &str = "The swarm right now";
pub const LOOKING: &str = "Looking for other tabs…";
pub const FIRST_HERE: &str = "You are the first node here. Open this page in a second tab to see the swarm.";
pub const EXAMPLES_LABEL: &str = "Example questions";
pub const EXAMPLES: [&str; 3] =
    ["What is a shard?", "What happens when a tab closes?", "Tell me a story about a brave fox"];
pub const GENESIS_ABOUT: &str = "Genesis is a 3.6 M parameter demo model: it answers questions about this swarm and \
    tells short stories. It knows little else.";
pub const STAT_NODES: &str = "nodes";
pub const STAT_HOSTS: &str = "hosts";
pub const STAT_LAYERS: &str = "layers online";

// Chat
pub const CHAT: &str = "Chat";
pub const CONVERSATION: &str = "Conversation";
pub const NEW_CHAT: &str = "New chat";
pub const CHATS: &str = "Chats";
pub const NO_CHATS: &str = "Conversations are kept in this browser, and appear here.";
pub const DELETE_CHAT: &str = "Delete";
pub const EXPORT_CHAT: &str = "Save as file";
pub const CLOSE: &str = "Close";
pub const YOU_ASKED: &str = "You asked: ";
pub const ANSWER: &str = "Answer";
pub const WAITING: &str = "Waiting for the first token…";
pub const ENDED_EARLY: &str = "Ended early";
pub const CUT_AT_LIMIT: &str = "cut at the length limit";
pub const STOPPED_BY_YOU: &str = "stopped by you";
pub const TRY_AGAIN: &str = "Try again";
pub const COPY: &str = "Copy";
pub const COPIED: &str = "Copied";
pub const EDIT: &str = "Edit";
pub const IMAGE_NOT_LOADED: &str = "An image of the answer; nothing is loaded from elsewhere";

// Question box
pub const YOUR_QUESTION: &str = "Your question";
pub const ASK_THE_SWARM: &str = "Ask the swarm…";
pub const SEND: &str = "Send";
pub const STOP: &str = "Stop";
pub const STOPPING: &str = "Stopping…";
pub const ROUTE: &str = "Route";
pub const ROUTES: [&str; 3] = ["Auto", "Swarm hosts", "This tab alone"];
pub const ANSWERS: &str = "Answers";
pub const STYLES: [&str; 3] = ["Exact", "Varied", "Custom"];
pub const SETTINGS: &str = "Settings";
pub const EDITING: &str = "You are changing an earlier question; what came after it will be replaced.";
pub const CANCEL: &str = "Cancel";
pub const PROMPT_HELP: &str =
    "Tabs that compute your answer see your IP address and could partly read it: send no secrets.";
pub const SYSTEM: &str = "System prompt";
pub const SYSTEM_HELP: &str = "Told to the model before the conversation.";
pub const TEMPERATURE: &str = "Temperature";
pub const TEMPERATURE_HELP: &str = "0 takes the most likely token";
pub const TOP_P: &str = "Top-p";
pub const TOP_P_HELP: &str = "1 considers all";
pub const TOP_K: &str = "Top-k";
pub const TOP_K_HELP: &str = "0 considers all";
pub const SEED: &str = "Seed";
pub const SEED_HELP: &str = "Empty: another one for each answer";
pub const MAX_TOKENS: &str = "Most tokens";
pub const MAX_TOKENS_HELP: &str = "Empty: half the context, up to 256";
pub const RESET: &str = "Reset";

// Route of an answer
pub const ROUTE_OF_ANSWER: &str = "Route of the answer";
pub const THIS_TAB: &str = "This tab";
pub const YOU: &str = "You";
pub const EXPOSED_LOCAL: &str = "Only this tab saw your words.";
pub const EXPOSED_BOOMERANG: &str = "Your words stayed in this tab; the tabs between saw activations, from which text can \
    partly be reconstructed, and your IP address.";
pub const EXPOSED_LIGHT: &str =
    "Tabs at an end of the route could read your words, those between could partly, and all see your IP address.";
pub const ROUTE_NAMES: [&str; 3] = ["This tab", "Boomerang", "Light"];

// Host
pub const HOST: &str = "Host";
pub const HOST_LEAD: &str =
    "Lend this tab to the swarm: it keeps a few layers and computes them for others while it is open.";
pub const HOST_A_SHARD: &str = "Host a shard";
pub const LAYERS: &str = "Layers";
pub const AUTO: &str = "Auto";
pub const CANNOT_COMPUTE: &str = "This browser can ask, but cannot compute for others.";
pub const WAITING_FOR_MODEL: &str = "Waiting for the model…";
pub const HOSTING_STATES: [&str; 6] = ["Not hosting", "Fetching", "Self-test", "Hosting", "Paused", "Hosting failed"];
pub const LAYERS_FETCHED: &str = "Layers fetched";
pub const PAUSE: &str = "Pause";
pub const RESUME: &str = "Resume";
pub const STOP_HOSTING: &str = "Stop hosting";
pub const THIS_TABS_WORK: &str = "What this tab does";
pub const FIGURE_LAYERS: &str = "layers held";
pub const FIGURE_SERVED: &str = "tokens served in";
pub const FIGURE_UPTIME: &str = "hosting for";
pub const FIGURE_MEMORY: &str = "memory in use";
pub const FIGURE_SENT: &str = "sent";
pub const FIGURE_RECEIVED: &str = "received";
pub const SHARES: &str = "What hosting shares";
pub const SHARES_LIST: [&str; 4] = [
    "Your IP address, with the tabs that you compute with.",
    "Bandwidth: a few kilobytes a token, and other tabs may fetch your layers.",
    "Compute: this tab works while others ask. It rests when nobody does.",
    "Nothing else: no file of yours, no other tab. Stop at any time, or close the tab.",
];
pub const SEES: &str = "What you see of others: activations, and at the ends of the model the words. Hosts keep nothing of \
    a session once it ends.";
pub const DASH: &str = "—";

// Swarm
pub const SWARM: &str = "Swarm";
pub const SWARM_LEAD: &str = "Every node that this tab knows, and how they are linked.";
pub const TOPOLOGY: &str = "Links of this tab";
pub const LEGEND_DIRECT: &str = "direct";
pub const LEGEND_RELAYED: &str = "through a relay";
pub const LEGEND_KNOWN: &str = "known, not connected";
pub const COVERAGE: &str = "Replicas of each layer";
pub const COVERAGE_UNKNOWN: &str = "Waiting for the model…";
pub const COVERAGE_GOOD: &str = "Every layer has at least two replicas.";
pub const COVERAGE_NONE: &str = "No tab hosts this model yet. Be the first.";
pub const NODES: &str = "Nodes";
pub const NODES_TABLE: &str = "Table of nodes";
pub const NODE: &str = "Node";
pub const LINK: &str = "Link";
pub const RTT: &str = "RTT";
pub const DATA: &str = "Data";
pub const IN_BACKGROUND: &str = ", in background";
pub const LIMITED: &str = "limited";
pub const NOBODY_ELSE: &str = "No other tab yet: open this page in a second one, or send its address to a friend.";
pub const TOTAL_NODES: &str = "nodes";
pub const TOTAL_HOSTS: &str = "hosts";
pub const TOTAL_GPUS: &str = "with a GPU";
pub const TOTAL_DIRECT: &str = "direct links";
pub const TOTAL_RELAYED: &str = "relayed links";
pub const RUNNING_REQUEST: &str = "The running request";
pub const NO_REQUEST: &str = "Nothing runs now. Ask something, and its way through the swarm appears here.";

// Models
pub const MODELS: &str = "Models";
pub const MODELS_LEAD: &str = "What the relay and the nodes of this network announce.";
pub const MODEL_LAYERS: &str = "layers";
pub const MODEL_CONTEXT: &str = "context";
pub const MODEL_SIZE: &str = "weights";
pub const MODEL_ONLINE: &str = "of the layers online";
pub const MODEL_CID: &str = "Content id of its manifest";
pub const HOST_THIS_MODEL: &str = "Host this model";

// Identity
pub const IDENTITY: &str = "Identity";
pub const IDENTITY_LEAD: &str =
    "Keys that this browser made. Nobody else has them, and no one can restore them for you.";
pub const ACCOUNT: &str = "Account";
pub const ACCOUNT_LEAD: &str = "One for this browser. It is yours on every device that you bring it to.";
pub const ACCOUNT_DID: &str = "Account identifier";
pub const NODE_OF_TAB: &str = "Node of this tab";
pub const NODE_LEAD: &str = "Every tab is a node with a key of its own, kept across reloads.";
pub const NODE_ID: &str = "Peer id";
pub const SEALED: &str = "Kept encrypted, under a key that the browser gives to no script.";
pub const MEMORY_ONLY: &str = "This browser keeps no keys: the account is gone when the page closes. Export it.";
pub const OWNER_ONLY: &str = "Kept in a file that only you can read.";
pub const EXPORT: &str = "Export";
pub const EXPORT_HELP: &str = "A file with the account, encrypted with a passphrase.";
pub const IMPORT: &str = "Import";
pub const IMPORT_HELP: &str = "Replaces the account of this browser. Export that first if you want it back.";
pub const PASSPHRASE: &str = "Passphrase";
pub const PASSPHRASE_AGAIN: &str = "Passphrase again";
pub const PASSPHRASE_SHORT: &str = "Use at least 10 characters.";
pub const PASSPHRASE_DIFFERS: &str = "The two passphrases differ.";
pub const SAVE_FILE: &str = "Save the file";
pub const FILE: &str = "File";
pub const CHOOSE_FILE: &str = "Choose a file first.";
pub const EXPORTED: &str = "Exported. Without the passphrase the file is worth nothing.";
pub const IMPORTED: &str = "Imported. This browser now has that account.";
pub const WORKING: &str = "Working…";
pub const WALLET: &str = "Wallet";
pub const WALLET_NOT_YET: &str = "Connecting a wallet is not there yet. Nothing on this network needs one.";
pub const STORED: &str = "What this page stored";
pub const STORED_LEAD: &str = "Layers, keys, conversations and settings, in this browser only.";
pub const ERASE: &str = "Erase everything…";
pub const ERASE_CONFIRM: &str = "This ends the node in every open tab of this page and erases the account, the node keys, \
    all conversations, layers and settings. It cannot be undone.";
pub const ERASE_NOW: &str = "Erase everything now";
pub const ERASE_KEEP: &str = "Keep it";
