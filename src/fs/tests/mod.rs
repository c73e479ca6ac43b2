mod content;
mod orphans;
mod privileges;
mod rig;
mod stores;
mod tree;
mod xattrs;
