from sc2jax.text.special_tokens import Special

# Table 5 of the StarCoder2 paper, then the placeholders that the released tokenizer adds.
LITERALS = (
    "<|endoftext|><fim_prefix><fim_middle><fim_suffix><fim_pad><repo_name><file_sep>"
    "<issue_start><issue_comment><issue_closed>"
    "<jupyter_start><jupyter_text><jupyter_code><jupyter_output><jupyter_script><empty_output>"
    "<code_to_intermediate><intermediate_to_code>"
    "<pr><pr_status><pr_is_merged><pr_base><pr_file><pr_base_code><pr_diff><pr_diff_hunk><pr_comment><pr_event_id>"
    "<pr_review><pr_review_state><pr_review_comment><pr_in_reply_to_review_id><pr_in_reply_to_comment_id>"
    "<pr_diff_hunk_comment_line>"
    "<NAME><EMAIL><KEY><PASSWORD>"
)


def test_literals_and_ids_are_those_of_the_paper() -> None:
    assert "".join(token.literal for token in Special) == LITERALS
    assert [int(token) for token in Special] == list(range(38))
