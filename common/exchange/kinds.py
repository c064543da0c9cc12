"""What stands on the outside of a message, for whoever passes it on unread: its kind, and that it is a
refusal or says that its sender has gone.
"""

from collections.abc import Mapping

MESSAGE_TYPES: Mapping[str, str] = {
    "hello": "query.hello",
    "keys": "query.keys",
    "shares": "query.shares",
    "train": "train.round",
    "agree": "query.agree",
    "unmask": "query.unmask",
    "evaluate": "evaluate.round",
}
UNMASKING = ("agree", "unmask")  # what a site is asked once its update has left: as many answers as needed, no more
ABOUT_MASKS = ("keys", "shares", *UNMASKING)
REFUSED = 100  # the error code of a refusal; Flower's own lie below
NODE_LOST = 5  # Flower's error code where a site has gone

# Why a site refuses: all it says to the server, and how the server says it
REFUSALS: Mapping[str, str] = {
    "CONFIGURATION": "the site's own settings do not fit the study; its log says which",
    "DATA": "the site has no cases that the study can use; its log says why",
    "CHECKPOINT": "the tensors that were sent, or those the site keeps, do not fit the study; its log says which",
    "DIVERGED": "training ran away at the site; lower the stage's learning_rate",
    "RELEASE": "the site's last gate held the answer back; its log says what was about to leave",
    "STORAGE": "the site could not read or write a file, or its disk is full; its log says where",
    "MEMORY": "the site ran out of memory; its log says on which device",
    "UNKNOWN_REQUEST": "the site does not know such a request; compare the releases",
    "TEST_TOLD": "the site has told its test results of this stage already, and tells no others",
    "NOT_APPROVED": "the study is waiting for approval at the site",
    "APPROVAL_OVER": "the site's approval has ended, was withdrawn or is used up; the site has to approve again",
    "WRONG_RELEASE": "the site runs another release than the coordinator, or the run brought code of its own",
    "WRONG_INITIAL": "the weights to start from are not those of the file that the study names",
    "RESTING": "the site trains at other hours; its site file says which",
    "BUDGET_SPENT": "the round would cost the site's patients more privacy than the site allows",
    "SMALL_COHORT": "the site has fewer training patients for the stage than it takes part with",
    "HELD": "the answer waits in the site's outbox for a person there to let it leave",
    "DECLINED": "a person at the site has declined to let the answer leave",
    "HALTED": "the site has stopped all that leaves it",
    "UNKNOWN_PEER": "the masks of the round name a hospital that the site has not approved, or with another key",
    "WRONG_MASKS": "keys, shares or lists of the round's masks do not verify at the site; its log says which",
    "CRASHED": "the site's worker died twice on this request; its log may say why",
    "INTERNAL": "something failed at the site that the release does not foresee; its log says what",
}
UNKNOWN_REFUSAL = "UNKNOWN_REFUSAL"  # in the place of a code that is not among these
