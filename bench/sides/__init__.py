"""The sides of the contenders. Each module holds the caller and the answering process of one library or one part of ours."""
