"""Amazon Bedrock's Converse, spoken to the service."""
