//! The cells of the matrix, and the promises that a cell does not make: in tables, each with its reason.
//!
//! A cell runs every case that is not named here for it, and none that is: a name that does not hold any more fails
//! as one that is missing does, but for what depends on the disk. The page in the manual is printed from these
//! tables (`page`).

use session_core::conformance::Profile;

use crate::world::Way;

/// Cases that a cell has not, by name or by file (`links::`), and why.
pub struct Gap {
    pub reason: &'static str,
    pub cases: &'static [&'static str],
}

const fn gap(reason: &'static str, cases: &'static [&'static str]) -> Gap {
    Gap { reason, cases }
}

/// How a store is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By its own calls.
    Direct,
    /// Through the gate of a session.
    Gate,
    /// Through a server of ours, by a client of ours.
    Over(Way),
}

/// What is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Memory,
    Disk,
    /// Another server of ours, which a gateway reaches in this way.
    Behind(Way),
}

impl Kind {
    /// What it does not tell of what is in it.
    pub fn narrows(self, profile: &mut Profile, staged: bool) {
        if let Kind::Behind(way) = self {
            way.lies_behind(profile, staged);
        }
    }
}

/// A cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    pub reach: Reach,
    pub kind: Kind,
    /// Under a staging layer.
    pub staged: bool,
}

impl Cell {
    pub const fn bare(reach: Reach, kind: Kind) -> Self {
        Cell { reach, kind, staged: false }
    }

    pub const fn staged(reach: Reach, kind: Kind) -> Self {
        Cell { reach, kind, staged: true }
    }

    /// What it does not promise.
    pub fn gaps(&self) -> Vec<&'static Gap> {
        let mut all = vec![IN_NO_CELL, NEED_A_STORE];
        match (self.reach, self.kind) {
            (Reach::Direct | Reach::Gate, Kind::Behind(_)) if self.staged => all.push(PUBLISHED_AT_ONCE),
            (Reach::Direct | Reach::Gate, Kind::Behind(_)) => {}
            (Reach::Direct | Reach::Gate, _) => all.extend([NOT_OF_OURS, PUBLISHED_AT_ONCE]),
            (Reach::Over(way), _) => all.push(not_over(way)),
        }
        if let Kind::Behind(way) = self.kind {
            all.push(not_behind(way));
        }
        all.push(if self.reach == Reach::Direct { LINKS_ARE_ANSWERED } else { LINKS_ARE_FOLLOWED });
        let unseen = matches!(self.reach, Reach::Over(way) if way.hides_what_is_under_way());
        match (self.staged, unseen) {
            // An object appears as a whole.
            (false, _) if self.kind == Kind::Behind(Way::S3) => all.extend([NEED_STAGING, NOT_STAGED]),
            (false, _) => all.extend([NEED_STAGING, NEED_WHOLE]),
            (true, true) => all.extend([NEED_STAGING, NOT_STAGED]),
            (true, false) => all.push(NOT_STAGED),
        }
        if matches!(self.reach, Reach::Over(way) if way.tears_what_is_given_up()) {
            all.push(NOT_STAGED);
        }
        if self.kind == Kind::Disk && matches!(self.reach, Reach::Direct | Reach::Gate) {
            all.push(OF_THE_DISK);
        }
        let mut all: Vec<_> = all.into_iter().flatten().chain(self.otherwise()).collect();
        if let (Reach::Over(front), Kind::Behind(behind)) = (self.reach, self.kind) {
            // What one side does at once, or does not bound, is as it is on the other.
            let in_steps = front.moves_in_steps() || behind.moves_in_steps();
            let bounded = front.bounds_names() || behind.bounds_names();
            let holds = |gap: &Gap| {
                in_steps && gap.reason == MOVES_AT_ONCE.reason
                    || bounded && gap.reason == LONG_NAMES.reason
                    || front.sorts() && gap.reason == NOT_SORTED.reason
            };
            all.retain(|gap| !holds(gap));
        }
        all
    }

    /// What it promises otherwise: cases that it would not skip by itself.
    pub fn otherwise(&self) -> Vec<&'static Gap> {
        let mut all = Vec::new();
        if let Reach::Over(way) = self.reach {
            all.extend(otherwise_over(way));
        }
        if let Kind::Behind(way) = self.kind {
            all.extend(otherwise_behind(way));
        }
        if let (Reach::Over(front), Kind::Behind(behind)) = (self.reach, self.kind) {
            all.extend(through(front, behind));
        }
        all
    }
}

/// The reasons of cases that may run or not, as the disk is.
pub fn depends_on_the_disk(case: &str) -> bool {
    OF_THE_DISK.iter().any(|gap| gap.cases.contains(&case))
}

const IN_NO_CELL: &[Gap] = &[
    gap("needs a minute: it has a test of its own", &["list::a_hundred_thousand_entries"]),
    gap("every store here tells names apart by case", &["names::case_makes_none"]),
];

const NEED_STAGING: &[Gap] =
    &[gap("only a staging layer promises it, and a way that shows what is under way", &["staging::"])];

const NEED_WHOLE: &[Gap] = &[gap(
    "only a staging layer promises it",
    &[
        "cancel::an_overwrite_never_mixes",
        "commit::a_dropped_file_is_not_published",
        "commit::a_failed_one_keeps_the_old_content",
        "commit::an_aborted_overwrite_keeps_the_old_content",
        "commit::is_the_moment_of_change",
        "concurrency::overwriting_is_never_torn",
    ],
)];

const NOT_STAGED: &[Gap] = &[gap(
    "a commit that is given up publishes what was written only where it is neither staged nor torn on its way",
    &["cancel::a_commit_leaves_what_was_written"],
)];

const NEED_A_STORE: &[Gap] = &[gap(
    "`stage` and `publish` are a store's own: a layer, a gate and a client have none",
    &[
        "cancel::a_publishing_happens_or_not",
        "cancel::a_staged_upload_is_whole_or_absent",
        "concurrency::publishing_is_never_torn",
        "stage::",
    ],
)];

const NOT_OF_OURS: &[Gap] = &[
    gap(
        "our stores, layers and gate do the whole of a change or nothing of it",
        &["honesty::a_half_supported_change_changes_nothing"],
    ),
    gap("directories move at once", &["rename::a_directory_stays_where_it_cannot_move_at_once"]),
];

const PUBLISHED_AT_ONCE: &[Gap] = &[gap(
    "new content is published all at once, though the calls for it are out of reach",
    &["honesty::staging_fits"],
)];

const LINKS_ARE_FOLLOWED: &[Gap] = &[gap(
    "a gate and a server follow links, so that no call is answered with one",
    &[
        "attributes::through_a_link_answers_with_it",
        "errors::below_a_link_is_answered_everywhere",
        "links::a_link_in_the_middle_is_answered",
        "links::list_answers_with_the_link",
        "links::open_answers_with_the_link",
        "links::stat_answers_with_the_link",
    ],
)];

const LINKS_ARE_ANSWERED: &[Gap] = &[gap(
    "a store and a staging layer answer with links; nobody follows them",
    &[
        "links::a_followed_link_gives_attributes_to_its_target",
        "links::a_followed_link_is_written_through",
        "links::a_followed_link_leads_on",
        "links::a_followed_link_lists_as_its_target",
        "links::a_followed_link_reads_as_its_target",
        "links::followed_links_in_a_circle_are_an_error",
    ],
)];

const OF_THE_DISK: &[Gap] = &[
    gap(
        "a temporary directory may keep no properties",
        &["attributes::properties_are_kept", "attributes::properties_survive_a_rename"],
    ),
    gap("a disk lists in no order", &["list::by_key_counts_the_slash", "list::by_name_is_sorted"]),
];

/// What a protocol has no words for.
pub fn not_over(way: Way) -> &'static [Gap] {
    match way {
        Way::Sftp => NOT_OVER_SFTP,
        Way::Scp => NOT_OVER_SCP,
        Way::Ftp | Way::Ftpes | Way::Ftps => NOT_OVER_FTP,
        Way::Dav | Way::Davs => NOT_OVER_DAV,
        Way::S3 | Way::S3s => NOT_OVER_S3,
    }
}

/// What a protocol does otherwise.
pub fn otherwise_over(way: Way) -> &'static [Gap] {
    match way {
        Way::S3 | Way::S3s => S3_OTHERWISE,
        Way::Dav | Way::Davs => DAV_OTHERWISE,
        Way::Scp => SCP_OTHERWISE,
        _ => &[],
    }
}

/// What a gateway to such a server does not have.
pub fn not_behind(way: Way) -> &'static [Gap] {
    match way {
        Way::Sftp => NOT_BEHIND_SFTP,
        _ => NOT_OVER_S3,
    }
}

/// What it does otherwise.
pub fn otherwise_behind(way: Way) -> &'static [Gap] {
    match way {
        Way::Sftp => &[],
        _ => S3_OTHERWISE,
    }
}

/// What a protocol in front of such a gateway does otherwise.
pub fn through(front: Way, behind: Way) -> &'static [Gap] {
    match (front, behind) {
        (Way::Sftp, Way::S3) => SFTP_BEFORE_S3,
        (Way::Scp, Way::S3) => SCP_BEFORE_S3,
        (Way::Ftp, Way::S3) => FTP_BEFORE_S3,
        (Way::Dav, Way::S3) => DAV_BEFORE_S3,
        _ => &[],
    }
}

const MOVES_AT_ONCE: Gap =
    gap("directories move at once", &["rename::a_directory_stays_where_it_cannot_move_at_once"]);
const NO_PROPERTIES: Gap = gap(
    "properties have no words, or our client has none for them",
    &["attributes::properties_are_kept", "attributes::properties_survive_a_rename"],
);
const NOT_SORTED: Gap =
    gap("listings come in no order", &["list::by_key_counts_the_slash", "list::by_name_is_sorted"]);
const NO_FILE_IDS: Gap =
    gap("nothing tells which file stands under a name", &["commit::abort_spares_what_came_meanwhile"]);
const NO_CONDITIONS: Gap = gap(
    "writes have no conditions",
    &["write::if_match_guards_the_content", "write::if_match_of_a_missing_file_fails"],
);
const COPY_IN_STEPS: Gap =
    gap("a copy is not one step, or nobody promises that", &["cancel::a_copy_is_whole_or_absent"]);
const SIZES_BY_WRITING: Gap = gap(
    "sizes are set by writing alone",
    &[
        "attributes::a_directory_is_not_cut",
        "attributes::a_file_is_cut",
        "attributes::a_file_is_extended_with_zeros",
        "attributes::a_handle_cuts",
    ],
);
const ONE_STREAM: Gap = gap(
    "a file is one stream of bytes, from its beginning on",
    &[
        "cancel::a_write_does_not_harm_the_next",
        "commit::abort_spares_what_was_there",
        "commit::waits_for_writes_in_flight",
        "concurrency::two_handles_write_two_halves",
        "write::a_gap_reads_as_zeros",
        "write::a_handle_reads_its_own_writes",
        "write::a_later_write_wins",
        "write::an_impossible_offset_is_refused",
        "write::beyond_four_gib",
        "write::in_the_middle_changes_only_that",
        "write::nothing_far_out_does_not_extend",
        "write::out_of_order_parts_end_in_place",
    ],
);
const NOT_CONTINUED: Gap = gap(
    "a file is replaced as a whole: it is neither continued nor appended to",
    &[
        "concurrency::appends_are_not_lost",
        "write::append_can_create",
        "write::append_goes_to_the_end",
        "write::continues_at_the_end",
        "write::continuing_with_nothing_changes_nothing",
    ],
);
const NO_MODES: Gap = gap(
    "there are no permission bits",
    &[
        "attributes::a_mode_at_creation_is_kept",
        "attributes::a_mode_is_kept",
        "attributes::an_impossible_mode_is_refused",
        "honesty::a_half_supported_change_changes_nothing",
        "staging::attributes_set_by_its_owner_are_published",
        "staging::attributes_set_by_its_session_are_published",
        "staging::attributes_set_by_others_are_of_the_published",
    ],
);
const NO_LINKS: Gap = gap("there are no links", &["attributes::a_link_has_its_own_time", "links::"]);
const READ_WHILE_WRITTEN: Gap =
    gap("a handle is for reading or for writing", &["staging::open_is_read_by_its_handle"]);

const NOT_OVER_SFTP: &[Gap] = &[
    MOVES_AT_ONCE,
    NO_PROPERTIES,
    COPY_IN_STEPS,
    gap(
        "the only ending of a file is a close: what is given up is published, where the connection holds",
        &["cancel::an_overwrite_never_mixes", "commit::a_dropped_file_is_not_published"],
    ),
    NO_FILE_IDS,
    NOT_SORTED,
    NO_CONDITIONS,
];

const NOT_OVER_FTP: &[Gap] = &[
    MOVES_AT_ONCE,
    SIZES_BY_WRITING,
    NO_PROPERTIES,
    COPY_IN_STEPS,
    NO_FILE_IDS,
    gap("a link has no time of its own", &["attributes::a_link_has_its_own_time"]),
    gap(
        "there are no hard links",
        &[
            "links::a_hard_link_is_refused_where_it_must_be",
            "links::a_hard_link_outlives_the_first_name",
            "links::a_hard_link_shares_content",
            "links::rename_between_names_of_one_file",
        ],
    ),
    ONE_STREAM,
    READ_WHILE_WRITTEN,
    gap(
        "550 stands for most errors: kinds are found by looking, and nothing is promised",
        &[
            "concurrency::one_rename_wins",
            "concurrency::the_same_levels_at_a_time",
            "errors::below_a_file_is_refused_everywhere",
            "errors::below_missing_is_not_found_everywhere",
            "errors::missing_is_not_found_everywhere",
            "errors::missing_is_not_worth_a_retry",
            "rename::a_directory_over_an_empty_one_replaces_it",
        ],
    ),
    NOT_SORTED,
    gap("STOR replaces: who looks first may look too early", &["concurrency::one_exclusive_creation_wins"]),
    gap("ends of lines end names", &["names::carriage_return", "names::newline"]),
    NO_CONDITIONS,
];

const NOT_OVER_DAV: &[Gap] = &[
    MOVES_AT_ONCE,
    SIZES_BY_WRITING,
    NO_MODES,
    NO_LINKS,
    ONE_STREAM,
    NO_FILE_IDS,
    NOT_CONTINUED,
    READ_WHILE_WRITTEN,
    COPY_IN_STEPS,
    NOT_SORTED,
];

const NO_TIMES: Gap = gap(
    "times are the server's own",
    &[
        "attributes::a_directory_keeps_a_time",
        "attributes::a_time_at_commit_is_kept",
        "attributes::a_time_is_kept",
        "attributes::a_time_on_a_handle_is_kept",
        "attributes::nothing_changes_nothing",
        "attributes::of_a_missing_entry_is_not_found",
        "attributes::one_time_leaves_the_other",
        "attributes::the_epoch_is_kept",
        "cancel::a_time_is_set_or_not",
    ],
);
const NO_SPACE: Gap = gap("room has no words", &["attributes::space_adds_up"]);
const UTF8_NAMES: Gap = gap(
    "names are UTF-8",
    &["names::half_a_character", "names::latin1", "names::not_utf8", "names::surrogate", "names::telnet_iac"],
);

const LONG_NAMES: Gap = gap("a key may be long, and its segments with it", &["names::too_long_is_refused"]);

const NOT_OVER_S3: &[Gap] = &[
    SIZES_BY_WRITING,
    NO_MODES,
    NO_TIMES,
    NO_LINKS,
    NO_PROPERTIES,
    NO_SPACE,
    ONE_STREAM,
    NO_FILE_IDS,
    NOT_CONTINUED,
    COPY_IN_STEPS,
    UTF8_NAMES,
    LONG_NAMES,
    gap(
        "a rename is a copy and a removal, and of a directory of each object in it",
        &[
            "cancel::a_rename_happens_or_not",
            "concurrency::one_mover_wins",
            "concurrency::one_removal_wins",
            "concurrency::one_rename_wins",
            "rename::a_directory_over_an_empty_one_replaces_it",
            "rename::moves_a_directory_with_its_content",
        ],
    ),
];

const NOT_OVER_SCP: &[Gap] = &[
    SIZES_BY_WRITING,
    NO_MODES,
    NO_TIMES,
    NO_LINKS,
    NO_PROPERTIES,
    NO_SPACE,
    ONE_STREAM,
    NO_FILE_IDS,
    NOT_CONTINUED,
    COPY_IN_STEPS,
    NOT_SORTED,
    NO_CONDITIONS,
    gap(
        "beside SCP itself a client needs a shell, and our server has none: nothing is removed",
        &[
            "cancel::a_directory_is_made_or_not",
            "cancel::a_removal_happens_or_not",
            "cancel::an_opening_leaves_nothing_held",
            "commit::reading_needs_no_ending",
            "concurrency::one_removal_wins",
            "concurrency::trees_beside_each_other",
            "dirs::a_directory_is_not_removed_as_a_file",
            "dirs::a_file_is_not_removed_as_a_directory",
            "dirs::a_full_one_stays",
            "dirs::a_missing_one_is_not_found",
            "dirs::a_name_can_be_used_again",
            "dirs::a_removed_file_is_gone",
            "dirs::a_tree_is_removed",
            "dirs::an_empty_one_is_removed",
            "dirs::the_root_stays",
            "list::a_removed_file_is_gone",
            "list::changes_meanwhile_lose_nothing",
            "names::prefixes_are_not_mixed_up",
            "read::a_removed_file_is_never_garbage",
        ],
    ),
    gap(
        "nor renamed, nor copied",
        &[
            "cancel::a_rename_happens_or_not",
            "cancel::a_replacing_rename_never_loses_the_target",
            "concurrency::one_mover_wins",
            "concurrency::one_rename_wins",
            "honesty::rename_replaces_fits",
            "rename::",
        ],
    ),
    gap("ends of lines end names", &["names::carriage_return", "names::newline"]),
    gap("a file is made where there is none by looking first", &["concurrency::one_exclusive_creation_wins"]),
];

const DAV_OTHERWISE: &[Gap] = &[
    gap(
        "our client continues no upload, so that one that was interrupted is sent anew",
        &[
            "staging::parked_is_locked_for_its_owner",
            "staging::the_parent_moved_by_its_owner_takes_it_along",
            "staging::the_parent_moved_by_its_session_takes_it_along",
            "staging::the_parent_moved_by_others_takes_it_along",
        ],
    ),
    gap("room is told of what is published", &["staging::space_is_told_of_an_upload"]),
];

const S3_OTHERWISE: &[Gap] = &[
    gap(
        "a directory is what keys begin with: two may make it, and it is made with what is put into it",
        &["concurrency::one_directory_is_made", "write::the_parent_must_exist"],
    ),
    gap(
        "what is in the way of an object has no word of its own",
        &["write::a_directory_is_refused", "write::below_a_file_is_refused"],
    ),
    gap(
        "an object that is replaced while it is read is told, and not read on",
        &["rename::replacing_is_one_step"],
    ),
];

const SCP_OTHERWISE: &[Gap] = &[
    gap(
        "who looks first whether a directory is there may look too early",
        &["concurrency::one_directory_is_made"],
    ),
    gap("the server's words do not tell what is wrong with a name", &["names::too_long_is_refused"]),
];

const NOT_BEHIND_SFTP: &[Gap] = &[MOVES_AT_ONCE, NO_PROPERTIES, NO_FILE_IDS, NOT_SORTED, NO_CONDITIONS];

const MOVES_AT_ONCE_UNTOLD: Gap =
    gap("that a directory would have to be copied has no code of its own", MOVES_AT_ONCE.cases);

const SCP_BEFORE_S3: &[Gap] = &[gap(
    "takes minutes: without a shell each entry of a listing is a question of its own, and some more behind it",
    &["cancel::a_listing_does_not_harm_the_next"],
)];

const FTP_BEFORE_S3: &[Gap] =
    &[gap("that there are no links at all has no code of its own", &["honesty::symlinks_fit"])];

const DAV_BEFORE_S3: &[Gap] = &[
    gap(
        "a time that nobody can set is refused as one that this user may not set",
        &["honesty::set_times_fits"],
    ),
    gap("our server copies a directory that cannot move at once", MOVES_AT_ONCE.cases),
];

const SFTP_BEFORE_S3: &[Gap] = &[
    gap(
        "a copy writes into an open file, which an object is not",
        &["honesty::copy_fits", "rename::copy_keeps_the_source", "rename::copy_replaces_only_with_leave"],
    ),
    gap("an owner that is what it was is not set", &["honesty::set_owner_fits"]),
    gap("who was faster has no code of its own", &["concurrency::one_exclusive_creation_wins"]),
    MOVES_AT_ONCE_UNTOLD,
];
