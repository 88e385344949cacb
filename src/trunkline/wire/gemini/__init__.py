"""Gemini's generateContent, spoken to Google's API and to Vertex AI."""
